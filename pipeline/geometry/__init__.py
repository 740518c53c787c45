"""Shared, pure geometry: arrays in, arrays out."""
