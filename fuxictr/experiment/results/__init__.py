"""What a run leaves: its row of results, and the identity by which it is found again."""
