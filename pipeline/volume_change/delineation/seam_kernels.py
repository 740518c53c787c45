"""The inner loop of telling cut from fill within a cell, compiled."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int32]


@njit(cache=True, nogil=True)
def add_parts(points: Array, x0: float, y0: float, cell: float, slots: Ints, planes: Array, sums: Array) -> None:
    """Add how far points lie above and below the ground of the earlier survey to ``sums``.

    Args:
        points: Of the later survey, metres, shape (n, 3).
        x0: Lowest x of the raster, metres.
        y0: Lowest y, metres.
        cell: Edge of a cell, metres.
        slots: Row of ``planes`` and ``sums`` for each cell, −1 for none, shape (rows, cols).
        planes: Ground of the earlier survey: height at the cell's centre, metres, slopes along x and y, shape (m, 3).
        sums: Points, then number, sum and sum of squares of those above, then of those below, shape (m, 7).
    """
    rows, cols = slots.shape
    for i in range(points.shape[0]):
        u = (points[i, 0] - x0) / cell
        v = (points[i, 1] - y0) / cell
        if not (0.0 <= u < cols and 0.0 <= v < rows):
            continue
        col, row = int(u), int(v)
        k = slots[row, col]
        if k < 0:
            continue
        x = (u - col - 0.5) * cell
        y = (v - row - 0.5) * cell
        moved = points[i, 2] - planes[k, 0] - planes[k, 1] * x - planes[k, 2] * y
        first = 1 if moved > 0.0 else 4
        sums[k, 0] += 1.0
        sums[k, first] += 1.0
        sums[k, first + 1] += moved
        sums[k, first + 2] += moved * moved
