"""The parts of a task that several workers share while one of them runs it."""
