"""Pairs of surveys with exact truth: ground, changes, errors and cover as closed forms, sampled anew in each epoch."""
