"""How far did the surface move along its own normal? M3C2 at core points on the reference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.abreast import both
from pipeline.clouds import EVERYWHERE, Box, Cloud, Points
from pipeline.geometry.cells import CellList, cylinder_stats, normals
from pipeline.volume_change.comparison import difference_kernels as kernels
from pipeline.volume_change.types import Array, CorePoints, Difference, ErrorModel, Mask, Raster

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


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be measured along normals.

    Args:
        cores: Where, m, shape (m, 3).
        cell: Edge of a grid cell, m.
        half_length: Of the cylinders, m.
        registration_error: Standard deviation that all points share, m.
    """

    cores: Points
    cell: float
    half_length: float
    registration_error: float


Measured = tuple[NDArray[np.intp], CorePoints]
"""Numbers of some core points, and what was measured there."""


def m3c2_map(pre: Cloud, post: Cloud, diff: Difference, errors: ErrorModel) -> CorePoints:
    """Measure along normals at one reference point per cell, window by window.

    Args:
        pre: Reference ground.
        post: Later ground, registered.
        diff: The height change, whose largest sets the cylinders' length.
        errors: What all points share of the error.

    Returns:
        No point is in a hull yet.
    """
    asked = asked_for(pre, diff, errors)
    each = (measured(pre, post, asked, window) for window in pre.windows())
    return gathered([one for one in each if one is not None])


def asked_for(pre: Cloud, diff: Difference, errors: ErrorModel) -> Asked:
    """Choose the core points and the cylinders; arguments as for ``m3c2_map``."""
    raster, change = diff.raster, diff.change
    return Asked(
        cores=core_points(pre, raster, np.isfinite(change)),
        cell=raster.cell,
        half_length=max(SHORTEST * raster.cell, 1.5 * float(np.nanmax(np.abs(change)))),
        registration_error=float(np.sqrt(errors.sill_long + errors.extra["offset_left"] ** 2)),
    )


def measured(pre: Cloud, post: Cloud, asked: Asked, window: Box) -> Measured | None:
    """Measure at the core points in one window; None if there are none."""
    mine = np.flatnonzero(_within(asked.cores, window))
    if not len(mine):
        return None
    wide = window if window == EVERYWHERE else _widened(asked.cores[mine], _reach(asked))
    return mine, m3c2(
        pre.near(wide), post.near(wide), asked.cores[mine], cell=asked.cell, half_length=asked.half_length,
        registration_error=asked.registration_error,
    )  # fmt: skip


def box_around(asked: Asked, window: Box) -> Box | None:
    """Return the box of the points that ``measured`` asks for; None if there is nothing to measure in the window."""
    mine = _within(asked.cores, window)
    return _widened(asked.cores[mine], _reach(asked)) if mine.any() else None


def gathered(found: Sequence[Measured]) -> CorePoints:
    """Return what was measured window by window as one, in the order of the core points."""
    return joined([core for _, core in found], np.argsort(np.concatenate([order for order, _ in found])))


def in_hulls(core: CorePoints, raster: Raster, labels: NDArray[np.int32]) -> CorePoints:
    """Return the core points with the number of the hull, from ``labels`` (rows, cols), that holds each."""
    col = ((core.points[:, 0] - raster.x0) / raster.cell).astype(np.int64)
    row = ((core.points[:, 1] - raster.y0) / raster.cell).astype(np.int64)
    return replace(core, hull=np.asarray(labels[row, col], dtype=np.int32))


def _reach(asked: Asked) -> float:
    """How far from a core point the points may lie that are looked at, m."""
    return asked.half_length + NORMAL_RADIUS * asked.cell


def _within(points: Array, box: Box) -> Mask:
    """Return which points lie in a box, its left and lower edges included."""
    x, y = points[:, 0], points[:, 1]
    return np.asarray((x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3]))


def _widened(points: Array, reach: float) -> Box:
    """Return the box around points, so much wider on all sides."""
    (left, bottom), (right, top) = points[:, :2].min(axis=0) - reach, points[:, :2].max(axis=0) + reach
    return float(left), float(bottom), float(right), float(top)


def joined(parts: Sequence[CorePoints], order: NDArray[np.intp]) -> CorePoints:
    """Return the core points of several parts as one, taken in this order."""

    def column(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])[order]

    return CorePoints(*(column(name) for name in ("points", "normals", "distance", "lod95", "hull")))
