"""What the sources that come with the software are: a JSON manifest each."""
