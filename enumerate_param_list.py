"""Writes the config folder of a tuner file; see python enumerate_param_list.py --help."""

from fuxictr.cli.tuner import main_enumerate

if __name__ == "__main__":
    main_enumerate()
