"""Scores new raw rows with a trained expid; see python predict.py --help."""

from fuxictr.cli.predict import main

if __name__ == "__main__":
    main()
