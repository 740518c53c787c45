"""Bundled real surveys: Tommy Thompson Park, Toronto, airborne lidar 2015 and 2023."""
