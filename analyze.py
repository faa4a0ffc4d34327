"""Records the embeddings of a trained expid; see python analyze.py --help."""

from fuxictr.cli.analyze import main

if __name__ == "__main__":
    main()
