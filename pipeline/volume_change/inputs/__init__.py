"""From the files of a run to surveys that speak of the same place."""
