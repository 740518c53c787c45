"""The Python client, which the command line uses."""
