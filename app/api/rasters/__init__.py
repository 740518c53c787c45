"""/api/run-model and what belongs to it: raster prediction, as its clients speak it."""
