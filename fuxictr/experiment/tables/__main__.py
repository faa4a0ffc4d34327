"""``python -m fuxictr.experiment.tables``: the earlier name of ``ge4rec tables``."""

from fuxictr.cli.tables import main

if __name__ == "__main__":
    main()
