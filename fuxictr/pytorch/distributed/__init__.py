"""The processes of one job and their communication."""
