"""Which value became NaN or infinite first."""
