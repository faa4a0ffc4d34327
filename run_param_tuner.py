"""Grid search over a tuner file of FuxiCTR; see python run_param_tuner.py --help."""

from fuxictr.cli.tuner import main

if __name__ == "__main__":
    main()
