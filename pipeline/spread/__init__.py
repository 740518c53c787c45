"""A run whose parts are done by several processes, perhaps on several machines."""
