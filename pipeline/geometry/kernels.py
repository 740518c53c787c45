"""Compiled loops over points sorted into square cells; called through ``spacing`` and ``cells``."""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_JACOBI_SWEEPS = 6


@njit(cache=True, nogil=True)
def sort_into_cells(points: Floats, x0: float, y0: float, cell: float, rows: int, cols: int) -> tuple[Floats, Ints]:
    """Counting sort: points by cell, in their order within each, and the start of each cell."""
    n = points.shape[0]
    which = np.empty(n, np.int32)
    starts = np.zeros(rows * cols + 1, np.int64)
    for i in range(n):
        col = int(min(max((points[i, 0] - x0) / cell, 0.0), cols - 1.0))
        row = int(min(max((points[i, 1] - y0) / cell, 0.0), rows - 1.0))
        k = row * cols + col
        which[i] = k
        starts[k + 1] += 1
    for k in range(rows * cols):
        starts[k + 1] += starts[k]
    following = starts[:-1].copy()
    placed = np.empty((n, 3), np.float64)
    for i in range(n):
        k = which[i]
        at = following[k]
        following[k] = at + 1
        placed[at, 0] = points[i, 0]
        placed[at, 1] = points[i, 1]
        placed[at, 2] = points[i, 2]
    return placed, starts


@njit(cache=True, nogil=True)
def _span(low: float, high: float, start: float, cell: float, count: int) -> tuple[int, int]:
    # Clamped as the points were: what lies outside the grid is kept in its border cells.
    first = np.floor((low - start) / cell)
    last = np.floor((high - start) / cell)
    return int(min(max(first, 0.0), count - 1.0)), int(min(max(last, 0.0), count - 1.0))


@njit(cache=True, parallel=True, nogil=True)
def cylinders(
    points: Floats,
    starts: Ints,
    grid: tuple[float, float, float, int, int],
    cores: Floats,
    normals: Floats,
    radius: float,
    half_length: float,
) -> tuple[Ints, Floats, Floats]:
    """Count, mean and sum of squared deviations along the normal of the points in each cylinder."""
    x0, y0, cell, rows, cols = grid
    m = cores.shape[0]
    count = np.zeros(m, np.int64)
    mean = np.full(m, np.nan)
    spread = np.full(m, np.nan)
    r2 = radius * radius
    for k in prange(m):
        cx, cy, cz = cores[k, 0], cores[k, 1], cores[k, 2]
        nx, ny, nz = normals[k, 0], normals[k, 1], normals[k, 2]
        reach_x = half_length * abs(nx) + radius * np.sqrt(max(0.0, 1 - nx * nx))
        reach_y = half_length * abs(ny) + radius * np.sqrt(max(0.0, 1 - ny * ny))
        if not (np.isfinite(reach_x + reach_y + cx + cy + cz)):
            continue
        col0, col1 = _span(cx - reach_x, cx + reach_x, x0, cell, cols)
        row0, row1 = _span(cy - reach_y, cy + reach_y, y0, cell, rows)
        inside = 0
        total = 0.0
        squares = 0.0
        if col1 >= col0:
            for row in range(row0, row1 + 1):
                for i in range(starts[row * cols + col0], starts[row * cols + col1 + 1]):
                    dx = points[i, 0] - cx
                    dy = points[i, 1] - cy
                    dz = points[i, 2] - cz
                    along = dx * nx + dy * ny + dz * nz
                    # Adding zeros for what lies outside spares a branch that no processor can foresee.
                    held = (abs(along) <= half_length) & (dx * dx + dy * dy + dz * dz - along * along <= r2)
                    inside += held
                    along = along if held else 0.0
                    total += along
                    squares += along * along
        count[k] = inside
        if inside > 0:
            mean[k] = total / inside
        if inside > 1:
            spread[k] = max(0.0, squares - total * total / inside) / (inside - 1)
    return count, mean, spread


@njit(cache=True, nogil=True)
def _least_axis(a: Floats) -> tuple[float, float, float, float]:
    """Smallest eigenvalue of a symmetric 3 × 3 matrix and its unit vector (cyclic Jacobi)."""
    v = np.eye(3)
    for _ in range(_JACOBI_SWEEPS):
        off = abs(a[0, 1]) + abs(a[0, 2]) + abs(a[1, 2])
        if off <= 1e-15 * (abs(a[0, 0]) + abs(a[1, 1]) + abs(a[2, 2])):
            break
        for p in range(2):
            for q in range(p + 1, 3):
                if a[p, q] == 0.0:
                    continue
                theta = (a[q, q] - a[p, p]) / (2 * a[p, q])
                t = 1 / (abs(theta) + np.sqrt(theta * theta + 1))
                if theta < 0:
                    t = -t
                c = 1 / np.sqrt(t * t + 1)
                s = t * c
                for k in range(3):
                    akp, akq = a[k, p], a[k, q]
                    a[k, p] = c * akp - s * akq
                    a[k, q] = s * akp + c * akq
                for k in range(3):
                    apk, aqk = a[p, k], a[q, k]
                    a[p, k] = c * apk - s * aqk
                    a[q, k] = s * apk + c * aqk
                for k in range(3):
                    vkp, vkq = v[k, p], v[k, q]
                    v[k, p] = c * vkp - s * vkq
                    v[k, q] = s * vkp + c * vkq
    least = 0
    for k in range(1, 3):
        if a[k, k] < a[least, least]:
            least = k
    return a[least, least], v[0, least], v[1, least], v[2, least]


@njit(cache=True, nogil=True)
def _scatter(
    points: Floats,
    starts: Ints,
    span: tuple[int, int, int, int, int],
    core: tuple[float, float, float],
    r2: float,
    a: Floats,
) -> int:
    """Fill in the covariance of the points within a sphere; returns how many there are."""
    row0, row1, col0, col1, cols = span
    cx, cy, cz = core
    n = 0
    sx = sy = sz = 0.0
    for row in range(row0, row1 + 1):
        for i in range(starts[row * cols + col0], starts[row * cols + col1 + 1]):
            dx = points[i, 0] - cx
            dy = points[i, 1] - cy
            dz = points[i, 2] - cz
            held = dx * dx + dy * dy + dz * dz <= r2
            n += held
            dx, dy, dz = dx if held else 0.0, dy if held else 0.0, dz if held else 0.0
            sx += dx
            sy += dy
            sz += dz
            a[0, 0] += dx * dx
            a[0, 1] += dx * dy
            a[0, 2] += dx * dz
            a[1, 1] += dy * dy
            a[1, 2] += dy * dz
            a[2, 2] += dz * dz
    if n > 0:
        a[0, 0] = a[0, 0] / n - sx * sx / n / n
        a[0, 1] = a[0, 1] / n - sx * sy / n / n
        a[0, 2] = a[0, 2] / n - sx * sz / n / n
        a[1, 1] = a[1, 1] / n - sy * sy / n / n
        a[1, 2] = a[1, 2] / n - sy * sz / n / n
        a[2, 2] = a[2, 2] / n - sz * sz / n / n
        a[1, 0] = a[0, 1]
        a[2, 0] = a[0, 2]
        a[2, 1] = a[1, 2]
    return n


@njit(cache=True, parallel=True, nogil=True)
def planes(
    points: Floats,
    starts: Ints,
    grid: tuple[float, float, float, int, int],
    cores: Floats,
    radius: float,
) -> tuple[Floats, Floats, Ints]:
    """Upward normal and spread across the best plane of the points in a sphere around each core."""
    x0, y0, cell, rows, cols = grid
    m = cores.shape[0]
    normal = np.zeros((m, 3))
    rough = np.full(m, np.nan)
    count = np.zeros(m, np.int64)
    r2 = radius * radius
    for k in prange(m):
        normal[k, 2] = 1.0
        cx, cy, cz = cores[k, 0], cores[k, 1], cores[k, 2]
        if not np.isfinite(cx + cy + cz):
            continue
        col0, col1 = _span(cx - radius, cx + radius, x0, cell, cols)
        row0, row1 = _span(cy - radius, cy + radius, y0, cell, rows)
        a = np.zeros((3, 3))
        n = 0
        if col1 >= col0:
            n = _scatter(points, starts, (row0, row1, col0, col1, cols), (cx, cy, cz), r2, a)
        count[k] = n
        if n < 3:
            continue
        value, ux, uy, uz = _least_axis(a)
        if uz < 0:
            ux, uy, uz = -ux, -uy, -uz
        normal[k, 0] = ux
        normal[k, 1] = uy
        normal[k, 2] = uz
        rough[k] = np.sqrt(max(0.0, value))
    return normal, rough, count


@njit(cache=True, nogil=True)
def sample_by_place(points: Floats, keep_one_in: int) -> Floats:
    """Take about one in so many distinct places; points at the same place are kept or left together."""
    n = points.shape[0]
    place = np.empty(2)
    bits = place.view(np.uint64)
    chosen = np.empty((n, 2))
    m = 0
    for i in range(n):
        # + 0.0 folds the two zeros of IEEE 754 into one place.
        place[0] = points[i, 0] + 0.0
        place[1] = points[i, 1] + 0.0
        h = bits[0] * np.uint64(0x9E3779B97F4A7C15) ^ bits[1] * np.uint64(0xC2B2AE3D27D4EB4F)
        h ^= h >> np.uint64(29)
        h *= np.uint64(0xBF58476D1CE4E5B9)
        h ^= h >> np.uint64(32)
        if h % np.uint64(keep_one_in) == 0:
            chosen[m, 0] = points[i, 0]
            chosen[m, 1] = points[i, 1]
            m += 1
    return chosen[:m].copy()
