"""``python -m fuxictr COMMAND``: as ``ge4rec COMMAND``, also where nothing is installed."""

from fuxictr.cli.main import main

if __name__ == "__main__":
    main()
