"""``python -m fuxictr.experiment.show``: the earlier name of ``ge4rec show``."""

from fuxictr.cli.show import main

if __name__ == "__main__":
    main()
