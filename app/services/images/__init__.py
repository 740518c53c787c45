"""Image pipelines: fetch what a request names, decode it in a process of its own, answer what was found in it."""
