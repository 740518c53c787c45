"""A task whose parts are done by several workers: the lead shares them out, the others help."""
