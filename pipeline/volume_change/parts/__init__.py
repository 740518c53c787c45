"""The parts of a run whose surveys lie in tiles, which other workers may do.

Each is done in the same order of points by whoever does it, so the result is that of one worker to the last digit.
"""
