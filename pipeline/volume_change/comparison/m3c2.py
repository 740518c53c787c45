"""How far did the surface move along its own normal? M3C2 at core points on the reference."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.abreast import both
from pipeline.clouds import Cloud, Points
from pipeline.geometry.cells import CellList, cylinder_stats, normals
from pipeline.volume_change.comparison import difference_kernels as kernels
from pipeline.volume_change.types import CorePoints, Mask, Raster

MOST_CORES = 1_000_000
RADIUS = 0.8  # of the cylinder, in cells: about 18 points, more than a grid cell holds
NORMAL_RADIUS = 1.6  # of the sphere that the normal is fitted in, in cells
SHORTEST = 4.0  # half-length of a cylinder, in cells
FEWEST = 4  # points of either survey in a cylinder
TWO_SIDED = 1.96


def core_points(cloud: Cloud, raster: Raster, wanted: Mask, most: int = MOST_CORES) -> Points:
    """Choose one reference point per wanted cell, the one nearest to its centre, and thin evenly beyond ``most``.

    Args:
        cloud: Reference ground.
        raster: The grid.
        wanted: Cells to have a core point, shape (rows, cols).
        most: Number of core points to keep.

    Returns:
        Shape (m, 3).
    """
    step = 1
    while np.count_nonzero(wanted[::step, ::step]) > most:
        step += 1
    kept = np.zeros_like(wanted)
    kept[::step, ::step] = wanted[::step, ::step]
    count = np.count_nonzero(kept)
    slots = np.full(kept.size, -1, np.int32)
    slots[kept.ravel()] = np.arange(count, dtype=np.int32)
    best, chosen = np.full(count, np.inf), np.zeros((count, 3))
    for block in cloud.blocks():
        kernels.nearest_to_centre(
            block.points, raster.x0, raster.y0, raster.cell, raster.rows, raster.cols, slots, best, chosen
        )
    return np.ascontiguousarray(chosen[np.isfinite(best)])


def m3c2(
    pre: Points, post: Points, cores: Points, *, cell: float, half_length: float, registration_error: float
) -> CorePoints:
    """Measure the distance from pre to post along the normals of pre, with its level of detection.

    LoD95 = 1.96 (√(s₁²/n₁ + s₂²/n₂) + registration error), from the spread of both surveys along the normal.

    Args:
        pre: Reference ground, m, shape (n, 3).
        post: Later ground, registered.
        cores: Where to measure, m, shape (m, 3).
        cell: Edge of a grid cell, m: the cylinder's radius is 0.8, the normal's 1.6 of it.
        half_length: Of the cylinders, m; larger than any change.
        registration_error: Standard deviation that all points share, m.

    Returns:
        Distance and LoD are NaN where a cylinder holds fewer than four points of either survey.

    Source:
        Lague, Brodu and Leroux (2013), doi:10.1016/j.isprsjprs.2013.04.009.
    """
    radius = RADIUS * cell
    if not len(cores):
        none = np.zeros(0)
        return CorePoints(np.zeros((0, 3)), np.zeros((0, 3)), none, none, np.zeros(0, np.int32))
    first, second = both(CellList.build, (pre, radius), (post, radius))
    normal, _, _ = normals(first, cores, NORMAL_RADIUS * cell)
    n1, mean1, variance1 = cylinder_stats(first, cores, normal, radius, half_length)
    n2, mean2, variance2 = cylinder_stats(second, cores, normal, radius, half_length)
    enough = (n1 >= FEWEST) & (n2 >= FEWEST)
    noise = np.where(enough, variance1 / np.maximum(n1, 1) + variance2 / np.maximum(n2, 1), np.nan)
    distance = np.where(enough, mean2 - mean1, np.nan)
    lod95 = TWO_SIDED * (np.sqrt(noise) + registration_error)
    return CorePoints(cores, normal, distance, lod95, np.zeros(len(cores), np.int32))


def joined(parts: Sequence[CorePoints], order: NDArray[np.intp]) -> CorePoints:
    """Return the core points of several parts as one, taken in this order."""

    def column(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])[order]

    return CorePoints(*(column(name) for name in ("points", "normals", "distance", "lod95", "hull")))
