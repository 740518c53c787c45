"""Where does a change end? Heights across its rim, fitted by the flanks that earthworks, slides and dunes have."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import distance_transform_edt

from pipeline.volume_change.types import Array, Mask

OUTSIDE, FINE = 8, 12  # cells outside and inside the rim with rings one cell wide
WIDER = 1.15  # each ring further in over the one before
FLANK = 0.7  # of the highest ring: the flank ends there
FEWEST = 4  # cells of a ring
LEVEL = 0.25  # sd of a flank's full height over the highest ring's
MODEL_ERROR = 0.01  # of the highest ring: no real flank is exactly one of these
JITTER = 0.1  # cells, sd: a staircase of cells is no contour
BETTER = 1.0  # by how much χ² must fall for a flank that is less simple
NARROWEST = 1.0  # cells: a flank that is not wider is an edge
STEEPEST = 1.0  # rise over run: what is steeper on average is a wall, whose rings are smeared by the grid
SURE = 1.0  # cells, sd: beyond, the rim was not found
FADED = 2.5  # sds of a Gaussian flank, which has no end: there it holds 4 % of its height

_ENDS = np.linspace(-4.0, 6.0, 51)  # cells inward of the mask's border
_WIDTHS = np.geomspace(1.0, 150.0, 23)
_FINER_ENDS, _FINER_WIDTHS = np.linspace(-0.2, 0.2, 9), np.geomspace(0.8, 1.25, 9)
_STEPS = (0.3, 0.5, 0.7)
_WITHIN = np.array([-0.4, -0.2, 0.0, 0.2, 0.4])  # of a ring's width
_EDGES: Array = np.append(np.arange(-OUTSIDE, FINE, dtype=np.float64), FINE * WIDER ** np.arange(20.0))

Shape = Literal["edge", "slope", "foot", "fading"]
_SHAPES: tuple[tuple[Shape, ...], ...] = (("slope",), ("foot", "fading"))  # the simple one first


@dataclass(frozen=True, slots=True)
class Rim:
    """How a change ends.

    Args:
        shape: ``edge``: within a cell, or not to be told; ``slope``: straight; ``foot``: like a cosine; ``fading``:
            like a Gaussian.
        end: Where, in cells inward of the border of the hull's cells; negative = beyond them.
        width: From there to its full height, cells.
        height: Full height, m, ≥ 0.
    """

    shape: Shape = "edge"
    end: float = 0.0
    width: float = 0.0
    height: float = 0.0

    def heights(self, depth: Array) -> Array:
        """Return the height of the flank, m, ≥ 0, at depths in cells inward of the border of the hull's cells."""
        if self.shape == "edge":
            return np.zeros(depth.shape)
        heights: Array = self.height * _flank(self.shape, (depth - self.end) / self.width)
        return heights

    def depth_at(self, level: float) -> float:
        """Return the depth, cells, at which the flank has a height, m, but no more than half its full height."""
        share = min(level / self.height, 0.5) if self.height > 0 else 0.5
        if self.shape == "fading":
            way = 1.0 - np.sqrt(-2.0 * np.log(share)) / FADED
        else:
            way = 2.0 / np.pi * np.arcsin(np.sqrt(share)) if self.shape == "foot" else share
        return float(self.end + self.width * way)


def depth_of(inside: Mask) -> Array:
    """Return how far each cell's centre lies inward of the border of a mask, cells; negative outside."""
    return np.asarray(np.where(inside, distance_transform_edt(inside) - 0.5, 0.5 - distance_transform_edt(~inside)))


def faces(inside: Mask, others: Mask) -> Mask:
    """Return the cells of a mask that lie nearer to others than to free ground: they end at a seam, not in a flank."""
    return np.asarray(inside & (distance_transform_edt(~others) <= distance_transform_edt(inside | others) + 1.0))


def find_rim(depth: Array, height: Array, variance: Array, seen: Mask, *, sill: float, cell: float) -> Rim:
    """Fit the mean heights of rings across the rim.

    Single cells at a rim drown in noise; the mean of a whole ring does not. A constant with the variance of the
    correlated error is fitted along.

    Args:
        depth: Of each cell inward of the hull's border, cells, any shape.
        height: Change in the hull's direction, m, same shape.
        variance: White variance of it, m².
        seen: Cells that were measured and belong to no other change.
        sill: Variance of the correlated error, m².
        cell: Edge of a cell, m.
    """
    rings = _rings(depth, height, variance, seen)
    inner = rings[:, 0] > 0
    if np.count_nonzero(inner) < 2 or np.count_nonzero(~inner) < 2:
        return Rim()
    top = float(rings[inner, 1].max())
    if top <= 0:
        return Rim()
    last = int(np.argmax(inner & (rings[:, 1] >= FLANK * top)))
    rings = rings[: last + 1]
    steepness = np.gradient(rings[:, 1], rings[:, 0])
    rings[:, 2] += (MODEL_ERROR * top) ** 2 + (JITTER * steepness) ** 2
    best, least = Rim(), _fit("slope", rings, top, sill, np.array(_STEPS))[0]
    for shapes in _SHAPES:
        squares, rim, spread = min((_fit(shape, rings, top, sill, _WIDTHS) for shape in shapes), key=lambda f: f[0])
        wide = rim.width > max(NARROWEST, rim.height / (STEEPEST * cell))
        if least - squares > BETTER and wide and spread < SURE:
            least, best = squares, rim
    return best


def _rings(depth: Array, height: Array, variance: Array, seen: Mask) -> Array:
    """Return mean depth, mean height, its variance and the width of each ring, shape (n, 4)."""
    near = seen & (depth > _EDGES[0]) & (depth < _EDGES[-1])
    number = np.digitize(depth[near], _EDGES) - 1
    count, depths, heights, variances = (
        np.bincount(number, weights, len(_EDGES) - 1) for weights in (None, depth[near], height[near], variance[near])
    )
    enough = count >= FEWEST
    count = count[enough]
    means = (depths[enough] / count, heights[enough] / count, variances[enough] / count**2, np.diff(_EDGES)[enough])
    return np.column_stack(means)


def _flank(shape: Shape, way: Array) -> Array:
    """Return the share of the full height; ``way`` is 0 at the end of the flank and 1 at its top."""
    if shape == "fading":
        return np.asarray(np.exp(-0.5 * (FADED * (1.0 - np.minimum(way, 1.0))) ** 2))
    share = np.clip(way, 0.0, 1.0)
    return np.asarray(np.sin(np.pi / 2 * share) ** 2) if shape == "foot" else share


def _fit(shape: Shape, rings: Array, highest: float, sill: float, widths: Array) -> tuple[float, Rim, float]:
    """Return χ², the rim and the standard deviation of its end, cells, under a flat prior."""
    squares, _ = _squares(shape, rings, highest, sill, _ENDS, widths)
    least = float(squares.min())
    if not np.isfinite(least):
        return np.inf, Rim(), np.inf
    likely = np.exp(-0.5 * (squares - least)).sum(axis=1)
    likely /= likely.sum()
    spread = float(np.sqrt(likely @ (_ENDS - likely @ _ENDS) ** 2))
    i, j = np.unravel_index(int(np.argmin(squares)), squares.shape)
    ends, widths = _ENDS[i] + _FINER_ENDS, widths[j] * _FINER_WIDTHS
    squares, tops = _squares(shape, rings, highest, sill, ends, widths)
    i, j = np.unravel_index(int(np.argmin(squares)), squares.shape)
    return float(squares[i, j]), Rim(shape, float(ends[i]), float(widths[j]), float(tops[i, j])), spread


def _squares(
    shape: Shape, rings: Array, highest: float, sill: float, ends: Array, widths: Array
) -> tuple[Array, Array]:
    """Return χ² and the full height, m, for each end and width; height and constant follow by least squares."""
    depth, height, variance, ring = rings.T
    way = (depth[:, None] + ring[:, None] * _WITHIN - ends[:, None, None, None]) / widths[:, None, None]
    share = _flank(shape, way).mean(axis=-1)
    weight = 1.0 / variance
    prior = 1.0 / max(sill, 1e-12)
    own, mixed = share**2 @ weight, share @ weight
    constant = weight.sum() + prior
    along, level = share @ (weight * height), float(weight @ height)
    determinant = own * constant - mixed**2
    sound = determinant > 1e-9 * own * constant
    safe = np.where(sound, determinant, 1.0)
    top = (constant * along - mixed * level) / safe
    offset = (own * level - mixed * along) / safe
    rest = height - top[..., None] * share - offset[..., None]
    unlike = (top / highest - 1.0) / LEVEL
    squares = rest**2 @ weight + offset**2 * prior + unlike**2
    return np.where(sound & (top > 0), squares, np.inf), top
