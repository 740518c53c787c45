"""Surveys larger than memory: points on disk in square tiles, worked through one after the other."""
