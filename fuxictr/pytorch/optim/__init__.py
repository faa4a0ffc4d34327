"""Adam by row: with the numbers of the dense Adam, only the rows of a batch are touched."""
