"""OGC API - Processes - Part 1: Core 1.0 (18-062r2) at /ogc, over the same tasks as everything else."""
