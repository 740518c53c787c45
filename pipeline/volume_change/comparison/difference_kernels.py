"""The inner loops of binning a cloud into cells, compiled."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]

OWN_PLANE = 8.0  # points from which a cell may have a plane of its own


@njit(cache=True, nogil=True)
def moments(points: Array, x0: float, y0: float, cell: float, rows: int, cols: int, z0: float, sums: Array) -> None:
    """Add the points to the ten sums of each cell: 1, x, y, z, xx, xy, yy, xz, yz, zz, shape (rows * cols, 10).

    x and y are metres from the cell's centre and z metres from ``z0``, which keeps the squares small.
    Points outside the raster are left out.
    """
    for i in range(points.shape[0]):
        u = (points[i, 0] - x0) / cell
        v = (points[i, 1] - y0) / cell
        # Compared as floats: casting a far-away coordinate to an integer would wrap round.
        if not (0.0 <= u < cols and 0.0 <= v < rows):
            continue
        col, row = int(u), int(v)
        x = (u - col - 0.5) * cell
        y = (v - row - 0.5) * cell
        z = points[i, 2] - z0
        s = sums[row * cols + col]
        s[0] += 1.0
        s[1] += x
        s[2] += y
        s[3] += z
        s[4] += x * x
        s[5] += x * y
        s[6] += y * y
        s[7] += x * z
        s[8] += y * z
        s[9] += z * z


@njit(cache=True, nogil=True)
def scatter(sums: Array) -> None:
    """Turn the ten sums into count, means and scatter about the cell's own mean, in place."""
    for k in range(sums.shape[0]):
        s = sums[k]
        n = s[0]
        if n == 0.0:
            continue
        x, y, z = s[1] / n, s[2] / n, s[3] / n
        s[1], s[2], s[3] = x, y, z
        s[4] -= n * x * x
        s[5] -= n * x * y
        s[6] -= n * y * y
        s[7] -= n * x * z
        s[8] -= n * y * z
        s[9] = max(s[9] - n * z * z, 0.0)


@njit(cache=True, nogil=True)
def _plane(xx: float, xy: float, yy: float, xz: float, yz: float) -> tuple[float, float]:
    """Slopes along x and y from sums of squares and products."""
    det = xx * yy - xy * xy
    return (yy * xz - xy * yz) / det, (xx * yz - xy * xz) / det


@njit(cache=True, nogil=True)
def _rest(s: Array, bx: float, by: float) -> float:
    """Sum of squares of a cell's heights about the plane with the given slopes through its mean."""
    rest = s[9] - 2.0 * (bx * s[7] + by * s[8]) + bx * bx * s[4] + 2.0 * bx * by * s[5] + by * by * s[6]
    return float(max(rest, 0.0))


@njit(cache=True, nogil=True)
def detrended(sums: Array, rows: int, cols: int, cell: float) -> tuple[Array, Array, Array, Array, Array]:
    """Return height at the centre, count, variance of single points, leverage and roughness of each cell.

    The slope comes from the scatter within the 3 × 3 cells around, each about its own mean: steps between
    cells do not tilt it, and nine cells' points make it steady. A ridge of one point's worth of scatter
    keeps a single scan line from inventing a slope across itself. Roughness is about the cell's own plane
    where that fits better, so that an edge near by does not make smooth ground rough; the height keeps the
    shared slope, since a plane through few points at the foot of a face misses the rest of the cell.
    """
    size = rows * cols
    height = np.full(size, np.nan)
    count = np.zeros(size)
    residual = np.full(size, np.nan)
    roughness = np.full(size, np.nan)
    leverage = np.zeros(size)
    ridge = cell * cell / 12.0
    for row in range(rows):
        for col in range(cols):
            k = row * cols + col
            s = sums[k]
            n = s[0]
            count[k] = n
            if n == 0.0:
                continue
            xx, xy, yy, xz, yz = ridge, 0.0, ridge, 0.0, 0.0
            for r in range(max(row - 1, 0), min(row + 2, rows)):
                for c in range(max(col - 1, 0), min(col + 2, cols)):
                    t = sums[r * cols + c]
                    if t[0] > 1.0:
                        xx += t[4]
                        xy += t[5]
                        yy += t[6]
                        xz += t[7]
                        yz += t[8]
            bx, by = _plane(xx, xy, yy, xz, yz)
            if n > 1.0:
                residual[k] = _rest(s, bx, by) / (n - 1.0)
                roughness[k] = residual[k]
            if n >= OWN_PLANE:
                ax, ay = _plane(s[4] + ridge, s[5], s[6] + ridge, s[7], s[8])
                own = _rest(s, ax, ay) / (n - 3.0)
                roughness[k] = min(own, residual[k])
            height[k] = s[3] - bx * s[1] - by * s[2]
            leverage[k] = (yy * s[1] * s[1] - 2.0 * xy * s[1] * s[2] + xx * s[2] * s[2]) / (xx * yy - xy * xy)
    return height, count, residual, leverage, roughness


@njit(cache=True, nogil=True)
def counts(points: Array, x0: float, y0: float, cell: float, rows: int, cols: int, n: Array) -> None:
    """Add how many points each cell holds to ``n``, shape (rows * cols,)."""
    for i in range(points.shape[0]):
        u = (points[i, 0] - x0) / cell
        v = (points[i, 1] - y0) / cell
        if 0.0 <= u < cols and 0.0 <= v < rows:
            n[int(v) * cols + int(u)] += 1.0


@njit(cache=True, nogil=True)
def nearest_to_centre(
    points: Array, x0: float, y0: float, cell: float, rows: int, cols: int, slots: NDArray[np.int32],
    best: Array, chosen: Array,
) -> None:  # fmt: skip
    """Keep for each cell that has a slot the point nearest to its centre in plan.

    Args:
        points: Metres, shape (n, 3).
        x0: Lowest x, metres.
        y0: Lowest y, metres.
        cell: Edge of a cell, metres.
        rows: Number of cells along y.
        cols: Number of cells along x.
        slots: Position of each cell in the results, −1 for none, shape (rows * cols,).
        best: Squared distance of the nearest so far, in cells, infinite at first, shape (m,).
        chosen: That point, shape (m, 3).
    """
    for i in range(points.shape[0]):
        u = (points[i, 0] - x0) / cell
        v = (points[i, 1] - y0) / cell
        if not (0.0 <= u < cols and 0.0 <= v < rows):
            continue
        k = slots[int(v) * cols + int(u)]
        if k < 0:
            continue
        du, dv = u - int(u) - 0.5, v - int(v) - 0.5
        distance = du * du + dv * dv
        if distance < best[k]:
            best[k] = distance
            chosen[k, 0] = points[i, 0]
            chosen[k, 1] = points[i, 1]
            chosen[k, 2] = points[i, 2]
