"""Compiled loops that deal points out to tiles and take them back."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Ints = NDArray[np.int32]


@njit(cache=True, nogil=True)
def dealt(
    points: Floats, classes: Bytes, table: Ints, x0: float, y0: float, edge: float, leaves: int
) -> tuple[Floats, Bytes, NDArray[np.int64]]:
    """Sort points by the tile that a table of square cells names, in the given order within each.

    Args:
        points: Metres, shape (n, 3).
        classes: Of the points, shape (n,).
        table: Number of the tile of each cell, shape (rows, cols); what lies outside goes to the nearest cell.
        x0: Lowest x of the table, metres.
        y0: Lowest y.
        edge: Of a cell of the table, metres.
        leaves: How many tiles there are.

    Returns:
        Points and classes, sorted, and where each tile's begin, shape (leaves + 1,).
    """
    rows, cols = table.shape
    n = points.shape[0]
    tile = np.empty(n, np.int32)
    starts = np.zeros(leaves + 1, np.int64)
    for i in range(n):
        col = min(max(int(np.floor((points[i, 0] - x0) / edge)), 0), cols - 1)
        row = min(max(int(np.floor((points[i, 1] - y0) / edge)), 0), rows - 1)
        tile[i] = table[row, col]
        starts[tile[i] + 1] += 1
    for k in range(leaves):
        starts[k + 1] += starts[k]
    following = starts[:-1].copy()
    placed = np.empty((n, 3))
    kinds = np.empty(n, np.uint8)
    for i in range(n):
        at = following[tile[i]]
        following[tile[i]] += 1
        placed[at, 0] = points[i, 0]
        placed[at, 1] = points[i, 1]
        placed[at, 2] = points[i, 2]
        kinds[at] = classes[i]
    return placed, kinds, starts


@njit(cache=True, nogil=True)
def in_box(points: Floats, left: float, bottom: float, right: float, top: float) -> Floats:
    """Return the points in a box, both edges included, in their order, shape (m, 3)."""
    m = 0
    chosen = np.empty((points.shape[0], 3))
    for i in range(points.shape[0]):
        x, y = points[i, 0], points[i, 1]
        if left <= x <= right and bottom <= y <= top:
            chosen[m, 0] = x
            chosen[m, 1] = y
            chosen[m, 2] = points[i, 2]
            m += 1
    return chosen[:m].copy()
