"""What leaves a task for people and other programs."""
