"""Results and records in, matplotlib figures out."""
