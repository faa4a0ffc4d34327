"""Draws the singular value spectra of a model's runs, DIS and GEN, into one figure."""

from fuxictr.cli.command import run_cli
from fuxictr.cli.figures import draw_recorded

if __name__ == "__main__":
    run_cli(lambda: draw_recorded(__doc__, "collapse"))
