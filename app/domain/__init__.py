"""The rules of the application; plain Python, no framework."""
