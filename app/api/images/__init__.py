"""Image pipelines by HTTP."""
