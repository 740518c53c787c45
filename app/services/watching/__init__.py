"""How tasks are followed by many at once."""
