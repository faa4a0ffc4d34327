"""One run, from a config to a row of results."""
