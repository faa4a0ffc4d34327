"""The report on a dataset: what was run, with its tables, figures and sentences, on one page."""
