"""Draws the singular value spectra of a model's runs, DIS and GEN, into one figure."""

from __future__ import annotations

from fuxictr.cli.command import run_cli
from fuxictr.cli.figures import figure_arguments


def main() -> None:
    """Loads the recordings, draws, saves and prints the paths."""
    args = figure_arguments(__doc__)
    from fuxictr.experiment.report.inputs import load_runs
    from fuxictr.plotting.paper import write_collapse

    records = load_runs(args.root, args.dataset_id, args.expids, args.model)
    for path in write_collapse(args.root, args.dataset_id, args.model, records):
        print(path)


if __name__ == "__main__":
    run_cli(main)
