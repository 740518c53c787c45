"""Compiled loops between points and grids; called through the stages that need them."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@njit(cache=True, nogil=True)
def bounds(points: Floats) -> tuple[Floats, Floats]:
    """Lowest and highest x and y; many times faster than numpy along the short axis."""
    low = np.full(2, np.inf)
    high = np.full(2, -np.inf)
    for i in range(points.shape[0]):
        for k in range(2):
            low[k] = min(low[k], points[i, k])
            high[k] = max(high[k], points[i, k])
    return low, high


@njit(cache=True, nogil=True)
def lowest(points: Floats, x0: float, y0: float, cell: float, grid: Floats) -> None:
    """Lower each cell of a grid, in place, to its lowest z; NaN stays where no point fell, none is outside."""
    rows, cols = grid.shape
    for i in range(points.shape[0]):
        u = (points[i, 0] - x0) / cell
        v = (points[i, 1] - y0) / cell
        if u >= 0 and v >= 0 and u < cols and v < rows:
            row, col = int(v), int(u)
            if not points[i, 2] >= grid[row, col]:
                grid[row, col] = points[i, 2]


@njit(cache=True, nogil=True)
def cell_sums(points: Floats, matrix: Floats, x0: float, y0: float, cell: float, rows: int, cols: int) -> Floats:
    """Count and sums of x, y, z per cell, shape (4, rows, cols), of the points moved by a 4 × 4 matrix."""
    sums = np.zeros((4, rows, cols))
    for i in range(points.shape[0]):
        a, b, c = points[i, 0], points[i, 1], points[i, 2]
        x = matrix[0, 0] * a + matrix[0, 1] * b + matrix[0, 2] * c + matrix[0, 3]
        y = matrix[1, 0] * a + matrix[1, 1] * b + matrix[1, 2] * c + matrix[1, 3]
        u = (x - x0) / cell
        v = (y - y0) / cell
        if u >= 0 and v >= 0 and u < cols and v < rows:
            row, col = int(v), int(u)
            sums[0, row, col] += 1
            sums[1, row, col] += x
            sums[2, row, col] += y
            sums[3, row, col] += matrix[2, 0] * a + matrix[2, 1] * b + matrix[2, 2] * c + matrix[2, 3]
    return sums


@njit(cache=True, nogil=True)
def relax(surface: Floats, unknown: Bools, sweeps: int) -> None:
    """Bend unknown cells, in place, to the soap film over their neighbours (successive over-relaxation)."""
    rows, cols = surface.shape
    for sweep in range(sweeps):
        for k in range(rows):
            row = k if sweep % 2 == 0 else rows - 1 - k
            for m in range(cols):
                col = m if sweep % 2 == 0 else cols - 1 - m
                if not unknown[row, col]:
                    continue
                total = 0.0
                n = 0
                if row > 0:
                    total += surface[row - 1, col]
                    n += 1
                if row < rows - 1:
                    total += surface[row + 1, col]
                    n += 1
                if col > 0:
                    total += surface[row, col - 1]
                    n += 1
                if col < cols - 1:
                    total += surface[row, col + 1]
                    n += 1
                surface[row, col] += 1.6 * (total / n - surface[row, col])


@njit(cache=True, nogil=True)
def regrown(opened: Floats, limit: Floats, steps: int) -> Floats:
    """Raise each cell to the highest of its 3 × 3 neighbours, but no higher than ``limit``, so many times."""
    rows, cols = opened.shape
    current = opened.copy()
    across = np.empty((3, cols))  # the highest of three along each of the rows around
    for _ in range(steps):
        changed = False
        _highest_of_three(current[0], across[0])
        across[1] = across[0]
        for row in range(rows):
            below = row + 1 if row + 1 < rows else row
            _highest_of_three(current[below], across[(row + 2) % 3])
            a, b, c = across[row % 3], across[(row + 1) % 3], across[(row + 2) % 3]
            for col in range(cols):
                z = min(max(a[col], b[col], c[col]), limit[row, col])
                changed |= z != current[row, col]
                current[row, col] = z
        if not changed:
            break
    return current


@njit(cache=True, nogil=True)
def _highest_of_three(line: Floats, out: Floats) -> None:
    last = line.shape[0] - 1
    for k in range(last + 1):
        out[k] = max(line[max(k - 1, 0)], line[k], line[min(k + 1, last)])


@njit(cache=True, nogil=True)
def heights(points: Floats, surface: Floats, slack: Floats, x0: float, y0: float, cell: float) -> tuple[Floats, Floats]:
    """Height of each point above a surface given at cell centres (bilinear), and the slack of its cell."""
    rows, cols = surface.shape
    n = points.shape[0]
    above = np.empty(n)
    allowed = np.empty(n)
    for i in range(n):
        u = (points[i, 0] - x0) / cell
        v = (points[i, 1] - y0) / cell
        col = min(max(int(u), 0), cols - 1)
        row = min(max(int(v), 0), rows - 1)
        allowed[i] = slack[row, col]
        u = min(max(u - 0.5, 0.0), cols - 1.0)
        v = min(max(v - 0.5, 0.0), rows - 1.0)
        left = min(int(u), max(cols - 2, 0))
        low = min(int(v), max(rows - 2, 0))
        right = min(left + 1, cols - 1)
        high = min(low + 1, rows - 1)
        fu = u - left
        fv = v - low
        z = (surface[low, left] * (1 - fu) + surface[low, right] * fu) * (1 - fv)
        z += (surface[high, left] * (1 - fu) + surface[high, right] * fu) * fv
        above[i] = points[i, 2] - z
    return above, allowed


@njit(cache=True, nogil=True)
def inside(points: Floats, matrix: Floats, mask: Bools, x0: float, y0: float, cell: float, every: int) -> Floats:
    """One in so many of the points that a 4 × 4 matrix moves into the mask, unmoved, in their order."""
    rows, cols = mask.shape
    n = 0
    chosen = np.empty((points.shape[0] // every + 1, 3))
    seen = 0
    for i in range(points.shape[0]):
        a, b, c = points[i, 0], points[i, 1], points[i, 2]
        u = (matrix[0, 0] * a + matrix[0, 1] * b + matrix[0, 2] * c + matrix[0, 3] - x0) / cell
        v = (matrix[1, 0] * a + matrix[1, 1] * b + matrix[1, 2] * c + matrix[1, 3] - y0) / cell
        if u >= 0 and v >= 0 and u < cols and v < rows and mask[int(v), int(u)]:
            if seen % every == 0:
                chosen[n, 0] = a
                chosen[n, 1] = b
                chosen[n, 2] = c
                n += 1
            seen += 1
    return chosen[:n].copy()


@njit(cache=True, nogil=True)
def central_in_cells(points: Floats, x0: float, y0: float, cell: float, rows: int, cols: int) -> NDArray[np.int64]:
    """Position of the most central point of each cell that holds one, by cell; points outside are left out."""
    best = np.full((rows, cols), np.inf)
    which = np.full((rows, cols), -1, np.int64)
    for i in range(points.shape[0]):
        u = (points[i, 0] - x0) / cell
        v = (points[i, 1] - y0) / cell
        if u >= 0 and v >= 0 and u < cols and v < rows:
            row, col = int(v), int(u)
            off = (u - col - 0.5) ** 2 + (v - row - 0.5) ** 2
            if off < best[row, col]:
                best[row, col] = off
                which[row, col] = i
    found = which.ravel()
    return found[found >= 0]
