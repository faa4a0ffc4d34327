"""Draws the singular value spectra that the encoder's activations lead to, into one figure."""

from fuxictr.cli.command import run_cli
from fuxictr.cli.figures import draw_activation_spectra

if __name__ == "__main__":
    run_cli(lambda: draw_activation_spectra(__doc__))
