"""Draws the correlations between the interacting sides, one heat map for each of a model's runs."""

from fuxictr.cli.command import run_cli
from fuxictr.cli.figures import draw_recorded

if __name__ == "__main__":
    run_cli(lambda: draw_recorded(__doc__, "correlation"))
