"""Pictures of a result: drawn for a phone in the sun, without any global state of the plotting library."""
