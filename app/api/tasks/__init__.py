"""The task API: everything below /api/v1/tasks, one module for each thing that clients do there."""
