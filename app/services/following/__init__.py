"""What lets somebody follow a task: its log, line by line, and what earlier runs say of how long one takes."""
