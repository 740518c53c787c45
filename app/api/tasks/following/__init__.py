"""Following a task: what happens to it as events over an open connection, and its log by line."""
