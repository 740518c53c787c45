"""What the commands share that talk to a server somewhere."""
