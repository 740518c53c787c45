"""OGC API - Processes over the same tasks: what was asked for, how jobs are found, who is told."""
