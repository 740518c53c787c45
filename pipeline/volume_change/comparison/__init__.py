"""How much each place moved: elevation grids and their difference, and M3C2 at core points."""
