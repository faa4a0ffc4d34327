"""Where the run_expid.py of a folder made earlier finds its command; new ones: fuxictr.cli.run."""

from fuxictr.cli.run import main

__all__ = ["main"]
