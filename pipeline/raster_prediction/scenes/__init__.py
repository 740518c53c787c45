"""From a place and a time to what was seen there: catalogue, files, clouds, composites."""
