"""Raw files as frames of rows, each cell with its origin."""
