"""What one column learns from the training split, and how its cells are encoded."""
