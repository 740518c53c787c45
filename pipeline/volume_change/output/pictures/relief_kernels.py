"""The ray caster's inner loop, compiled: which sample of the ground each pixel of a view shows."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Grid = NDArray[np.float64]
Rgb = NDArray[np.float32]
Ints = NDArray[np.int64]


@njit(cache=True, nogil=True)
def _between(grid: Grid | Rgb, row: float, col: float) -> float:
    """Bilinear value, clamped at the edges; NaN beside NaN."""
    rows, cols = grid.shape
    row = min(max(row, 0.0), rows - 1.0)
    col = min(max(col, 0.0), cols - 1.0)
    r, c = int(row), int(col)
    s, t = min(r + 1, rows - 1), min(c + 1, cols - 1)
    v, u = row - r, col - c
    return float((grid[r, c] * (1 - u) + grid[r, t] * u) * (1 - v) + (grid[s, c] * (1 - u) + grid[s, t] * u) * v)


@njit(cache=True, nogil=True)
def _nearest(value: float, count: int) -> int:
    return min(max(int(np.floor(value + 0.5)), 0), count - 1)


@njit(cache=True, nogil=True)
def cast(
    height: Grid,
    across: Grid,
    away: Grid,
    look: tuple[float, float],
    page: tuple[float, float, float, float, float],
    tall: int,
) -> tuple[Ints, Ints]:
    """Find what each pixel shows, column by column, from the eye outwards.

    Args:
        height: Elevations, m, shape (rows, cols), NaN where unseen.
        across: Place of each pixel column across the line of sight, cells, shape (w,).
        away: Place of each sample along it, cells, shape (n,), near ones first.
        look: Cosine and sine of the direction of view.
        page: Pixels up the page per cell away; pixels per metre of height; elevation of the block's foot, m; pixels
            of sample 0's foot above the lower edge; ``away[0]``.
        tall: Height of the page, pixels.

    Returns:
        The sample that each pixel shows, shape (tall, w), row 0 at the bottom: −1 = none, −2 = the block's cut face;
        and the first seen sample of each column, shape (w,), n where there is none.
    """
    rows, cols = height.shape
    cosine, sine = look
    per_cell, per_metre, bottom, lowest, start = page
    n = away.shape[0]
    shown = np.full((tall, across.shape[0]), -1, np.int64)
    first = np.full(across.shape[0], n, np.int64)
    for k in range(across.shape[0]):
        pixel = 0
        before = False  # whether the sample before was seen
        for i in range(n):
            row = away[i] * sine - across[k] * cosine + (rows - 1) / 2
            col = away[i] * cosine + across[k] * sine + (cols - 1) / 2
            seen = row > -0.5 and row < rows - 0.5 and col > -0.5 and col < cols - 0.5
            z = 0.0
            if seen:
                z = _between(height, row, col)
                if not np.isfinite(z):
                    z = height[_nearest(row, rows), _nearest(col, cols)]
                    seen = np.isfinite(z)
            if seen:
                foot = lowest + (away[i] - start) * per_cell
                top = foot + per_metre * (z - bottom)
                beginning = first[k] == n
                if beginning:
                    first[k] = i
                while pixel < tall and pixel + 0.5 <= top:
                    if beginning:
                        if pixel + 0.5 >= foot:
                            shown[pixel, k] = -2
                    elif before:  # behind a hole the next sample would be drawn as a cliff: leave it open instead
                        shown[pixel, k] = i
                    pixel += 1
            before = seen
    return shown, first


@njit(cache=True, nogil=True)
def paint(
    shown: Ints, across: Grid, away: Grid, look: tuple[float, float], colour: Rgb, bright: Rgb
) -> tuple[Rgb, Ints]:
    """Return the shaded colour of each pixel, RGBA, and the number of the cell that it shows, −1 without one."""
    rows, cols = bright.shape
    cosine, sine = look
    tall, wide = shown.shape
    picture = np.zeros((tall, wide, 4), np.float32)
    cell = np.full((tall, wide), -1, np.int64)
    for p in range(tall):
        for k in range(wide):
            i = shown[p, k]
            if i < 0:
                continue
            row = away[i] * sine - across[k] * cosine + (rows - 1) / 2
            col = away[i] * cosine + across[k] * sine + (cols - 1) / 2
            r, c = _nearest(row, rows), _nearest(col, cols)
            light = _between(bright, row, col)
            for channel in range(3):
                picture[p, k, channel] = min(colour[r, c, channel] * light, 1.0)
            picture[p, k, 3] = 1.0
            cell[p, k] = r * cols + c
    return picture, cell
