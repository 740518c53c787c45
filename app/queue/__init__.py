"""How a pending task is announced to the workers."""
