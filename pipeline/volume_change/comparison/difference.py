"""How much higher is the ground, cell by cell, and how sure is each cell by itself?"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

from pipeline.clouds import Cloud, Points
from pipeline.errors import RegistrationFailed
from pipeline.volume_change.comparison import difference_kernels as kernels
from pipeline.volume_change.comparison.border import closed
from pipeline.volume_change.types import Array, Difference, Mask, Raster

CELL_IN_SPACINGS = 3.0  # about nine points a cell: fine enough for small pits, enough for a variance
MOST_CELLS_PER_POINT = 4.0
TERRAIN = 0.5  # share of the variance around a cell that its own must reach
QUANTISATION = 1e-3**2 / 12  # m²: files keep millimetres, so no point is known better


@dataclass(frozen=True, slots=True)
class Surface:
    """One survey as a grid; all arrays have shape (rows, cols).

    Args:
        height: Slope-detrended mean elevation at the cell's centre, m; NaN where no point fell.
        variance: Variance of ``height`` from point noise, m²; NaN where no point fell.
        count: Points in the cell.
        roughness: Variance of single points about the local plane, m²; NaN below two points.
        scatter: Variance of single points that ``variance`` was computed with, m².
    """

    height: Array
    variance: Array
    count: Array
    roughness: Array
    scatter: Array


def choose_cell(pre_spacing: float, post_spacing: float, override: float | None = None) -> float:
    """Return the edge of a cell, m: three times the coarser survey's point spacing unless overridden.

    >>> choose_cell(0.1, 0.5)
    1.5
    >>> choose_cell(0.1, 0.5, override=2.0)
    2.0
    """
    return override if override is not None else CELL_IN_SPACINGS * max(pre_spacing, post_spacing)


def common_raster(pre: Cloud, post: Cloud, cell: float) -> Raster:
    """Return the grid over the box that both surveys reach.

    Raises:
        RegistrationFailed: If the boxes do not meet.
    """
    (pre_low, pre_high), (post_low, post_high) = pre.extent, post.extent
    low, high = np.maximum(pre_low, post_low)[:2], np.minimum(pre_high, post_high)[:2]
    most = MOST_CELLS_PER_POINT * (len(pre) + len(post)) + 1e6
    if np.prod(np.maximum(high - low, 0.0)) / cell**2 > most:
        # Stray points far away stretch the box beyond what the points could fill.
        both = [np.quantile(cloud.sample(100_000)[:, :2], [0.001, 0.999], axis=0) for cloud in (pre, post)]
        low, high = np.maximum(both[0][0], both[1][0]) - cell, np.minimum(both[0][1], both[1][1]) + cell
    if np.any(high <= low):
        raise RegistrationFailed(
            "The two surveys do not overlap.",
            remedy="Check that both files show the same site in the same coordinate system.",
        )
    cols, rows = (np.floor((high - low) / cell).astype(int) + 1).tolist()
    return Raster(float(low[0]), float(low[1]), float(cell), rows, cols)


def moments_of(parts: Iterable[Points], raster: Raster, z0: float) -> Array:
    """Return count, means and scatter of the points of each cell, heights from ``z0`` (m), shape (rows * cols, 10)."""
    sums = np.zeros((raster.rows * raster.cols, 10))
    for points in parts:
        kernels.moments(points, raster.x0, raster.y0, raster.cell, raster.rows, raster.cols, z0, sums)
    kernels.scatter(sums)
    return sums


def surface(cloud: Cloud, raster: Raster) -> Surface:
    """Bin one survey: slope-detrended means with their variance, from ten sums a cell in one pass.

    The variance of a mean is max(own, site median) / n: the few points of a thin cell often agree by chance.
    """
    rows, cols, cell = raster.rows, raster.cols, raster.cell
    z0 = float(np.median(cloud.sample(10_000)[:, 2])) if len(cloud) else 0.0
    sums = moments_of((block.points for block in cloud.blocks()), raster, z0)
    height, count, residual, leverage, roughness = kernels.detrended(sums, rows, cols, cell)
    del sums  # by far the largest of all, on large sites
    enough = count >= (5.0 if np.any(count >= 5.0) else 2.0)
    # The median of χ²/k lies below its mean, the more so the fewer the points.
    unbiased = residual[enough] / (1.0 - 2.0 / (9.0 * (count[enough] - 1.0))) ** 3
    typical = float(np.median(unbiased)) if len(unbiased) else 0.0
    single = np.fmax(np.nan_to_num(residual), max(typical, QUANTISATION))
    del residual
    with np.errstate(divide="ignore"):
        leverage += 1.0 / count
    leverage *= single
    empty = count == 0
    leverage[empty] = single[empty] = np.nan
    height += z0
    shape = (rows, cols)
    grids = (height, leverage, count, roughness, single)
    return Surface(*(grid.reshape(shape) for grid in grids))


def compare(before: Surface, after: Surface, raster: Raster) -> Difference:
    """Subtract two grids of one raster.

    Where the ground around a cell is rough in both surveys (a face, a kink), its points may agree by chance
    of where they fell, so the surroundings set a floor to their variance. The edge of a change is rough in
    one survey only and keeps its own.
    """
    around = [_mean_around(s.scatter) for s in (before, after)]
    floor = TERRAIN * np.fmin(*around)
    variance = sum((s.variance * np.maximum(floor / s.scatter, 1.0) for s in (before, after)), np.zeros(floor.shape))
    return Difference(raster, before.height, after.height, after.height - before.height, variance)


def _mean_around(values: Array) -> Array:
    """Return the mean over 3 × 3 cells of what is known; 0 where nothing is."""
    known = np.isfinite(values)
    total = uniform_filter(np.where(known, values, 0.0), 3, mode="constant")
    share = uniform_filter(known.astype(float), 3, mode="constant")
    return np.asarray(np.where(share > 0.05, total / np.maximum(share, 0.05), 0.0))


def across_gaps(diff: Difference) -> Array:
    """Return the change with narrow gaps bridged, m: NaN still where a gap is wider than two cells.

    Each survey's surface is interpolated by itself, so that a cell which one survey saw keeps that height.
    """
    gaps = narrow_gaps(diff)
    if not gaps.any():
        return diff.change
    heights = [interpolated(grid, np.isfinite(grid)) for grid in (diff.before, diff.after)]
    return np.where(gaps, heights[1] - heights[0], diff.change)


def like_neighbours(diff: Difference) -> Array:
    """Return the change with narrow gaps filled by their neighbours' change, m.

    For sums over the whole site: on a slope the border cells of an interpolated surface lean inwards, and what
    only one survey saw there would add up to a change that is none.
    """
    gaps = narrow_gaps(diff)
    return np.where(gaps, interpolated(diff.change, np.isfinite(diff.change)), diff.change)


def narrow_gaps(diff: Difference) -> Mask:
    """Return the cells that not both surveys saw, enclosed by seen ones, two cells wide at most."""
    seen = np.isfinite(diff.change)
    return np.asarray(closed(seen) & ~seen)


def interpolated(values: Array, known: Mask) -> Array:
    """Return ``values`` where known, elsewhere a Gaussian mean of the known ones, nearest first; 0 without any."""
    data, result = np.where(known, values, 0.0), np.where(known, values, np.nan)
    sigma = 1.0
    while known.any() and np.isnan(result).any() and sigma < 4 * max(values.shape):
        weight = gaussian_filter(known.astype(float), sigma, mode="constant")
        with np.errstate(divide="ignore", invalid="ignore"):
            guess = gaussian_filter(data, sigma, mode="constant") / weight
        result = np.where(np.isnan(result) & (weight > 1e-3), guess, result)
        sigma *= 2
    return np.asarray(np.nan_to_num(result))


def difference(pre: Cloud, post: Cloud, cell: float) -> Difference:
    """Return the height change of each cell that both surveys saw.

    Args:
        pre: Ground of the reference survey.
        post: Ground of the later survey, registered.
        cell: Edge of a cell, m.

    Raises:
        RegistrationFailed: If the surveys do not overlap.
    """
    raster = common_raster(pre, post, cell)
    return compare(surface(pre, raster), surface(post, raster), raster)
