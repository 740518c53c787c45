"""Onto which cells is a place laid?"""

import math
from dataclasses import dataclass

from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from pipeline.raster_prediction import Box

_EDGE_POINTS = 21  # of each side, since sides of a box bend on the grid


@dataclass(frozen=True, slots=True)
class Grid:
    """Square cells that cover a box, north up, whose corners lie on whole multiples of their edge.

    Args:
        crs: UTM, of the zone in which the middle of the box lies.
        transform: From column and row to coordinates.
        width: Cells across.
        height: Cells down.
    """

    crs: CRS
    transform: Affine
    width: int
    height: int

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top, metres."""
        left, top = self.transform.c, self.transform.f
        return left, top - self.height * self.cell, left + self.width * self.cell, top

    @property
    def cell(self) -> float:
        """Edge of a cell, metres."""
        return float(self.transform.a)

    @property
    def epsg(self) -> str:
        """The CRS, by its code."""
        return f"EPSG:{self.crs.to_epsg()}"


def utm_of(box: Box) -> int:
    """Return the EPSG code of the UTM zone of a box's middle.

    >>> utm_of((15.0, 47.0, 15.1, 47.1)), utm_of((179.0, -10.0, 180.0, -9.0))
    (32633, 32760)
    """
    west, south, east, north = box
    zone = min(60, int(((west + east) / 2 + 180) // 6) + 1)
    return (32600 if (south + north) / 2 >= 0 else 32700) + zone


def grid_of(box: Box, resolution: float) -> Grid:
    """Return the cells that cover a box.

    Args:
        box: West, south, east, north, degrees.
        resolution: Edge of a cell, metres.
    """
    crs = CRS.from_epsg(utm_of(box))
    left, bottom, right, top = transform_bounds("EPSG:4326", crs, *box, densify_pts=_EDGE_POINTS)
    column, row = math.floor(left / resolution), math.ceil(top / resolution)
    width = max(1, math.ceil(right / resolution) - column)
    height = max(1, row - math.floor(bottom / resolution))
    return Grid(crs, Affine(resolution, 0, column * resolution, 0, -resolution, row * resolution), width, height)
