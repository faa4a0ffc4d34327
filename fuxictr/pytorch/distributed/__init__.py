"""The processes of one job, and what they tell one another."""
