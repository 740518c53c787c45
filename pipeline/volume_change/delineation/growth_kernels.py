"""The inner loops of growing changes ring by ring, compiled."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int32]
Mask = NDArray[np.bool_]


@njit(cache=True, nogil=True)
def rings(
    labels: Ints, change: Array, variance: Array, usable: Mask, boxes: Ints, active: Mask, reach: int
) -> tuple[Array, Array]:
    """Sum the ring of free cells around each active hull, and the annulus from there ``reach`` cells out.

    Args:
        labels: Hull of each cell, 0 = free, shape (rows, cols).
        change: Height change, m; read only where ``usable``.
        variance: White variance, m².
        usable: Cells that may be measured.
        boxes: First row, first column, last row and last column of each hull, shape (n + 1, 4).
        active: Hulls to look at, shape (n + 1,).
        reach: Width of the annulus, cells.

    Returns:
        Count, sum of change, sum of variance per hull for the ring and for the annulus, each (n + 1, 3).
    """
    rows, cols = labels.shape
    n = boxes.shape[0]
    ring = np.zeros((n, 3))
    annulus = np.zeros((n, 3))
    stamp = np.zeros((rows, cols), np.int32)
    queue = np.empty((rows * cols, 2), np.int32)
    for k in range(1, n):
        if not active[k]:
            continue
        end = 0
        for r in range(max(boxes[k, 0] - 1, 0), min(boxes[k, 2] + 2, rows)):
            for c in range(max(boxes[k, 1] - 1, 0), min(boxes[k, 3] + 2, cols)):
                if labels[r, c] == 0 and _touches(labels, r, c, k):
                    stamp[r, c] = k
                    queue[end, 0], queue[end, 1] = r, c
                    end += 1
                    if usable[r, c]:
                        ring[k, 0] += 1.0
                        ring[k, 1] += change[r, c]
                        ring[k, 2] += variance[r, c]
        start = 0
        for _ in range(reach):
            last = end
            for q in range(start, last):
                for r in range(max(queue[q, 0] - 1, 0), min(queue[q, 0] + 2, rows)):
                    for c in range(max(queue[q, 1] - 1, 0), min(queue[q, 1] + 2, cols)):
                        if labels[r, c] == 0 and stamp[r, c] != k:
                            stamp[r, c] = k
                            queue[end, 0], queue[end, 1] = r, c
                            end += 1
                            if usable[r, c]:
                                annulus[k, 0] += 1.0
                                annulus[k, 1] += change[r, c]
                                annulus[k, 2] += variance[r, c]
            start = last
    return ring, annulus


@njit(cache=True, nogil=True)
def _touches(labels: Ints, row: int, col: int, k: int) -> bool:
    """Whether one of the eight cells around belongs to hull ``k``."""
    for r in range(max(row - 1, 0), min(row + 2, labels.shape[0])):
        for c in range(max(col - 1, 0), min(col + 2, labels.shape[1])):
            if labels[r, c] == k:
                return True
    return False


@njit(cache=True, nogil=True)
def claim(labels: Ints, usable: Mask, boxes: Ints, chosen: Mask) -> None:
    """Give the ring of each chosen hull to it, in place; a cell that two want goes to the lower number."""
    rows, cols = labels.shape
    for k in range(1, boxes.shape[0]):
        if not chosen[k]:
            continue
        top, left = max(boxes[k, 0] - 1, 0), max(boxes[k, 1] - 1, 0)
        bottom, right = min(boxes[k, 2] + 1, rows - 1), min(boxes[k, 3] + 1, cols - 1)
        for r in range(top, bottom + 1):
            for c in range(left, right + 1):
                if labels[r, c] == 0 and usable[r, c] and _touches(labels, r, c, k):
                    labels[r, c] = -k  # marked first, so that the ring stays one cell wide
        for r in range(top, bottom + 1):
            for c in range(left, right + 1):
                if labels[r, c] == -k:
                    labels[r, c] = k
        boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3] = top, left, bottom, right


@njit(cache=True, nogil=True)
def borders(labels: Ints, change: Array, most: int) -> tuple[Ints, Array]:
    """List pairs of touching hulls with the count and the sum of change of the cells along their border."""
    rows, cols = labels.shape
    pairs = np.zeros((most, 2), np.int32)
    sums = np.zeros((most, 2))
    n = 0
    for r in range(rows):
        for c in range(cols):
            a = labels[r, c]
            if a <= 0:
                continue
            for dr, dc in ((0, 1), (1, -1), (1, 0), (1, 1)):
                r2, c2 = r + dr, c + dc
                if r2 >= rows or c2 < 0 or c2 >= cols:
                    continue
                b = labels[r2, c2]
                if b <= 0 or b == a:
                    continue
                low, high = min(a, b), max(a, b)
                at = 0
                while at < n and not (pairs[at, 0] == low and pairs[at, 1] == high):
                    at += 1
                if at == n:
                    if n == most:
                        continue
                    pairs[n, 0], pairs[n, 1] = low, high
                    n += 1
                sums[at, 0] += 2.0
                sums[at, 1] += change[r, c] + change[r2, c2]
    return pairs[:n], sums[:n]
