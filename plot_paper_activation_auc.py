"""Draws the activation ablation: test AUC by the encoder's activation."""

from fuxictr.cli.command import run_cli
from fuxictr.cli.figures import draw_ablation_auc

if __name__ == "__main__":
    run_cli(lambda: draw_ablation_auc(__doc__, "activation"))
