"""What runs will cost in time and memory, before one of them starts."""
