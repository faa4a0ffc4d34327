"""Which experiments there are: models, their expids, ablations, and what an option selects."""
