"""Around one run: fetched, supervised, kept alive, cleared away."""
