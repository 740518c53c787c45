"""The HTTP face; the only code that knows FastAPI."""
