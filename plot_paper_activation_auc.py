"""Draws the activation ablation: test AUC by the encoder's activation."""

from __future__ import annotations

from fuxictr.cli.command import run_cli
from fuxictr.cli.figures import ablation_arguments

GROUP = "activation"


def main() -> None:
    """Loads the results, draws, saves and prints the paths."""
    args = ablation_arguments(__doc__)
    from fuxictr.experiment.report.inputs import load_ablation
    from fuxictr.plotting.ablation import write_ablation

    runs = load_ablation(args.results, args.model, args.dataset, GROUP, args.seeds)
    for path in write_ablation(args.root, args.dataset_id, args.model, GROUP, *runs):
        print(path)


if __name__ == "__main__":
    run_cli(main)
