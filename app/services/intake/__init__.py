"""How tasks come in: a request that is sent twice, files that are fetched from URLs."""
