"""Where a survey lies, and grids over it that a few stray points cannot blow up."""

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.raster_kernels import bounds

Array = NDArray[np.float64]

_SAMPLE = 100_000
_TRIM = 0.001  # share of the points on each side that may be stray
_MARGIN = 0.05  # of the extent, given back after trimming


def grid_over(points: Array, cell: float, most_cells: int) -> tuple[float, float, float, int, int]:
    """Return a grid of square cells over the points: x0, y0, cell, rows, cols.

    If that takes more than ``most_cells``, the outermost thousandth of the points is left outside first;
    if it is still too many, the cells are made larger.

    Args:
        points: Metres, shape (n, 2 or more), n ≥ 1.
        cell: Wanted edge of a cell, metres.
        most_cells: Upper limit of rows × cols.

    >>> grid_over(np.array([[0.0, 0], [10, 4.9]]), 1.0, 1000)
    (0.0, 0.0, 1.0, 5, 11)
    """
    low, high = bounds(points)
    if _cells(low, high, cell) > most_cells:
        low, high = trimmed_extent(points)
        while _cells(low, high, cell) > most_cells:
            cell *= 1.5
    cols, rows = (int(e // cell) + 1 for e in high - low)
    return float(low[0]), float(low[1]), cell, rows, cols


def trimmed_extent(points: Array) -> tuple[Array, Array]:
    """Return the lowest and highest x and y of all but stray points, each of shape (2,).

    Args:
        points: Metres, shape (n, 2 or more), n ≥ 1.
    """
    sample = points[:: max(1, len(points) // _SAMPLE), :2]
    low, high = np.quantile(sample, [_TRIM, 1 - _TRIM], axis=0, method="nearest")
    margin = _MARGIN * (high - low)
    lowest, highest = bounds(points)
    return np.maximum(low - margin, lowest), np.minimum(high + margin, highest)


def _cells(low: Array, high: Array, cell: float) -> float:
    across = (high - low) / cell + 1
    return float(across[0] * across[1])
