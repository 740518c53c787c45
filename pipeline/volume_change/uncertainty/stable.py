"""What does the ground that did not move say about the error of a height change?"""

from dataclasses import dataclass, replace

import numpy as np
import shapely
from shapely import MultiPolygon

from pipeline.errors import StableAreaEmpty
from pipeline.volume_change.types import Array, Difference, ErrorModel, Mask, Raster
from pipeline.volume_change.uncertainty.covariance import Covariance, estimate

FEWEST_CELLS = 12
FEWEST_POINTS = 20
NMAD = 1.4826  # median absolute deviation to standard deviation, for a Gaussian


@dataclass(frozen=True, slots=True)
class StableGround:
    """Cells of the stable polygons that both surveys saw.

    Args:
        cells: Shape (rows, cols).
        pre_points: Ground points of the reference survey in the polygons' cells.
        post_points: The same of the later survey.
    """

    cells: Mask
    pre_points: int
    post_points: int


def inside(raster: Raster, polygons: MultiPolygon) -> Mask:
    """Return which cells have their centre inside the polygons, shape (rows, cols)."""
    mask = np.zeros((raster.rows, raster.cols), dtype=bool)
    x = raster.x0 + (np.arange(raster.cols) + 0.5) * raster.cell
    y = raster.y0 + (np.arange(raster.rows) + 0.5) * raster.cell
    for polygon in polygons.geoms:
        left, bottom, right, top = polygon.bounds
        c = slice(*np.searchsorted(x, [left, right]))
        r = slice(*np.searchsorted(y, [bottom, top]))
        if c.start < c.stop and r.start < r.stop:
            shapely.prepare(polygon)
            mask[r, c] |= shapely.contains_xy(polygon, *np.meshgrid(x[c], y[r]))
    return mask


def stable_ground(diff: Difference, stable: MultiPolygon, pre_count: Array, post_count: Array) -> StableGround:
    """Find the jointly seen stable cells.

    Args:
        diff: Height change.
        stable: Polygons in local coordinates, m.
        pre_count: Points of the reference survey in each cell, shape (rows, cols).
        post_count: Points of the later survey in each cell.

    Raises:
        StableAreaEmpty: If they hold too little ground to judge the error.
    """
    within = inside(diff.raster, stable)
    cells = within & np.isfinite(diff.change)
    pre, post = int(pre_count[within].sum()), int(post_count[within].sum())
    joint = int(np.count_nonzero(cells))
    if joint >= FEWEST_CELLS and min(pre, post) >= FEWEST_POINTS:
        return StableGround(cells, pre, post)
    where = (
        "The stable polygons lie outside the ground that both surveys saw."
        if joint == 0
        else f"The stable polygons hold too little ground that both surveys saw: {joint} cells of "
        f"{diff.raster.cell:.2g} m, {pre} and {post} points, where {FEWEST_CELLS} cells and "
        f"{FEWEST_POINTS} points are needed."
    )
    raise StableAreaEmpty(
        where,
        label="shp",
        remedy="Draw larger polygons over ground that did not change, in the surveys' coordinate system.",
        details={
            "cells": joint,
            "pre_points": pre,
            "post_points": post,
            "area": round(joint * diff.raster.cell**2, 3),
            "cells_needed": FEWEST_CELLS,
            "points_needed": FEWEST_POINTS,
        },
    )


def trusted(ground: StableGround, usable: Mask) -> StableGround:
    """Leave out stable cells where plants or vehicles stand, whose change is none of the ground's, if enough are left.

    Args:
        ground: The stable cells.
        usable: Cells whose ground is ground, shape (rows, cols).
    """
    cells = ground.cells & usable
    return replace(ground, cells=cells) if np.count_nonzero(cells) >= FEWEST_CELLS else ground


def error_model(
    diff: Difference, ground: StableGround, *, delivered: float | None = None
) -> tuple[ErrorModel, Covariance]:
    """Judge the error of a height change from the stable cells.

    Args:
        diff: Height change after registration.
        ground: The stable cells.
        delivered: Median change of the stable ground before the registration, m; None if nothing was moved.

    Returns:
        The model that is reported, and the covariance that intervals are computed with.
    """
    values = diff.change[ground.cells]
    cell = diff.raster.cell
    covariance = estimate(diff.change, diff.variance, ground.cells, cell)
    left = float(np.median(values))
    sigma = NMAD * float(np.median(np.abs(values - left)))
    nugget = covariance.white * float(np.median(diff.variance[ground.cells]))
    model = ErrorModel(
        points=ground.pre_points + ground.post_points,
        area=len(values) * cell * cell,
        bias=left if delivered is None else delivered,
        sigma=sigma,
        lod95=1.96 * float(np.hypot(sigma, left)),
        correlation_length=covariance.length(),
        sill_long=covariance.sill,
        nugget=nugget,
        extra={"cells": len(values), "offset_left": left, "independent_patches": round(covariance.freedom(), 2)},
    )
    return model, covariance
