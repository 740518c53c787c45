"""What operators see of the service from outside: logs, metrics, traces, and whether each part answers."""
