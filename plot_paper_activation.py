"""Draws the singular value spectra that the encoder's activations lead to, into one figure."""

from __future__ import annotations

from fuxictr.cli.command import run_cli
from fuxictr.cli.figures import ablation_arguments


def main() -> None:
    """Loads the recordings, draws, saves and prints the paths."""
    args = ablation_arguments(__doc__, reads_results=False)
    from fuxictr.experiment.report.inputs import load_activation_runs
    from fuxictr.plotting.activation import write_activation_spectra

    records = load_activation_runs(args.root, args.model, args.dataset)
    for path in write_activation_spectra(args.root, args.dataset_id, args.model, records):
        print(path)


if __name__ == "__main__":
    run_cli(main)
