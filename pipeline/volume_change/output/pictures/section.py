"""A profile over a change: where to cut, and the ground along the cut before and after."""

from dataclasses import dataclass

import numpy as np
import shapely
from scipy.ndimage import map_coordinates

from pipeline.volume_change.output.pictures.relief_view import small_gaps_closed
from pipeline.volume_change.types import Analysis, Array, Hull, Raster

Window = tuple[float, float, float, float]  # left, bottom, right, top, local m

_ELONGATED = 5.0  # variance along a hull over that across it, from which it counts as long
_SLOPING = 0.05
_MARGIN = 0.6  # of the width of the change, shown on both sides
_LEAST_MARGIN = 6  # cells
_SEEN = 0.4  # of the weights around a place


@dataclass(frozen=True, slots=True)
class Section:
    """A profile over the ground.

    Args:
        ends: Local x, y of A and B, m, shape (2, 2).
        along: Distance from A, m, shape (n,).
        before: Elevation of the reference, local m; NaN where unseen.
        after: The same later.
    """

    ends: Array
    along: Array
    before: Array
    after: Array


def section_of(analysis: Analysis, number: int, window: Window) -> Section:
    """Return the profile through a hull's largest height change, across the hull or down the slope.

    A long hull is cut across its length, as one draws cross-sections of a bank or a road; another one down
    the slope, as one draws a slide; on level ground, from west to east.

    Args:
        analysis: The finished analysis.
        number: Position of the hull, 1 = first.
        window: The profile stays inside.
    """
    difference, hull = analysis.difference, analysis.hulls[number - 1]
    raster = difference.raster
    spot, direction = _cut(analysis, number)
    first, last = _extent(hull, spot, direction, raster.cell)
    low, high = _inside(spot, direction, window)
    first, last = max(first, low), min(last, high)
    along = np.linspace(first, last, int(np.clip(4 * (last - first) / raster.cell, 60, 900)))
    xy = spot + along[:, None] * direction
    before, after = (_profile(grid, raster, xy) for grid in (difference.before, difference.after))
    seen = np.flatnonzero(np.isfinite(before) | np.isfinite(after))
    keep = slice(seen[0], seen[-1] + 1) if len(seen) > 1 else slice(None)
    xy, along = xy[keep], along[keep]
    return Section(xy[[0, -1]], along - along[0], before[keep], after[keep])


def _cut(analysis: Analysis, number: int) -> tuple[Array, Array]:
    """Return the place of the largest change, and the unit vector of the cut, pointing east where it can."""
    difference, raster = analysis.difference, analysis.difference.raster
    rows, cols = np.nonzero((analysis.labels == number) & np.isfinite(difference.change))
    if not len(rows):
        return np.array(analysis.hulls[number - 1].centroid), np.array([1.0, 0.0])
    xy = np.column_stack([raster.x0 + (cols + 0.5) * raster.cell, raster.y0 + (rows + 0.5) * raster.cell])
    direction = _direction(xy, difference.after[rows, cols])
    at = int(np.abs(difference.change[rows, cols]).argmax())
    return xy[at], direction if direction[0] >= 0 else -direction


def _direction(xy: Array, heights: Array) -> Array:
    centred = xy - xy.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(centred.T) if len(xy) > 2 else np.eye(2))
    if values[1] > _ELONGATED * max(values[0], 1e-12):
        across: Array = vectors[:, 0]
        return across
    seen = np.isfinite(heights)
    if seen.sum() > 5:
        design = np.column_stack([centred[seen], np.ones(seen.sum())])
        slope = np.linalg.lstsq(design, heights[seen], rcond=None)[0][:2]
        steep = float(np.hypot(*slope))
        if steep > _SLOPING:
            down: Array = slope / steep
            return down
    return np.array([1.0, 0.0])


def _extent(hull: Hull, spot: Array, direction: Array, cell: float) -> tuple[float, float]:
    """Return where the cut starts and ends, m from ``spot``: the change and some ground on both sides."""
    left, bottom, right, top = hull.polygon.bounds
    reach = float(np.hypot(right - left, top - bottom)) + cell
    line = shapely.LineString([spot - reach * direction, spot + reach * direction])
    crossed = shapely.get_parts(hull.polygon.intersection(line))
    pieces = [np.sort((shapely.get_coordinates(piece) - spot) @ direction)[[0, -1]] for piece in crossed]
    first, last = min(pieces, key=lambda piece: max(piece[0], -piece[1], 0.0), default=(0.0, 0.0))
    margin = max(_MARGIN * (last - first), _LEAST_MARGIN * cell)
    return float(min(first, 0.0) - margin), float(max(last, 0.0) + margin)


def _inside(spot: Array, direction: Array, window: Window) -> tuple[float, float]:
    """Return how far a line through ``spot`` runs each way before it comes near the window's edge, m."""
    low, high = np.array(window[:2]), np.array(window[2:])
    inset = 0.06 * (high - low).min()
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.concatenate([(low + inset - spot) / direction, (high - inset - spot) / direction])
    ends = ends[np.isfinite(ends)]
    before, after = ends[ends < 0], ends[ends > 0]
    return float(before.max(initial=-np.inf)), float(after.min(initial=np.inf))


def _profile(grid: Array, raster: Raster, xy: Array) -> Array:
    place = np.column_stack([xy[:, 1] - raster.y0, xy[:, 0] - raster.x0]) / raster.cell - 0.5
    low = np.maximum(np.floor(place.min(axis=0)).astype(int) - 6, 0)
    high = np.ceil(place.max(axis=0)).astype(int) + 7
    part = grid[low[0] : max(high[0], low[0]), low[1] : max(high[1], low[1])]
    if not part.size:
        return np.full(len(xy), np.nan)
    # bilinear over the cells that were seen, so that the ground does not end a cell before its edge
    closed = small_gaps_closed(part)
    seen = np.isfinite(closed)
    weight = map_coordinates(seen.astype(np.float64), (place - low).T, order=1, mode="constant")
    total = map_coordinates(np.where(seen, closed, 0.0), (place - low).T, order=1, mode="constant")
    return np.where(weight > _SEEN, total / np.maximum(weight, _SEEN), np.nan)
