"""The grids at the resolution of a page, and how they are painted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from pipeline.volume_change.output.pictures.canvas import colours
from pipeline.volume_change.output.pictures.relief_view import shade, small_gaps_closed
from pipeline.volume_change.types import Analysis, Array

_MOST_CELLS = 1400  # more cells than this along a side are averaged: a pixel cannot show them
_COMPANY = 3.5 / 9  # of a cell and its eight neighbours


@dataclass(frozen=True, slots=True)
class Scene:
    """What a plan shows, at the resolution of a page.

    Args:
        left: Local x of the grid's left edge, m.
        bottom: Local y of its lower edge, m.
        cell: Edge of a cell, m.
        before: Elevations, m, shape (rows, cols), NaN where unseen.
        after: The same later.
        change: Height change, m.
        labels: Number of the hull, 0 = none.
    """

    left: float
    bottom: float
    cell: float
    before: Array
    after: Array
    change: Array
    labels: NDArray[np.int32]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top, local m."""
        rows, cols = self.change.shape
        return self.left, self.left + cols * self.cell, self.bottom, self.bottom + rows * self.cell


def scene_of(
    analysis: Analysis, window: tuple[float, float, float, float] | None = None, most_cells: int = _MOST_CELLS
) -> Scene:
    """Return the part of the grids inside a window, averaged where it has more cells than a page has pixels.

    Args:
        analysis: The finished analysis.
        window: Left, bottom, right, top in local metres; None = all.
        most_cells: Longest side of the result.
    """
    raster, difference = analysis.difference.raster, analysis.difference
    r0, r1, c0, c1 = 0, raster.rows, 0, raster.cols
    if window is not None:
        c0, c1 = _span(window[0] - raster.x0, window[2] - raster.x0, raster.cell, raster.cols)
        r0, r1 = _span(window[1] - raster.y0, window[3] - raster.y0, raster.cell, raster.rows)
    cut = np.s_[r0:r1, c0:c1]
    factor = max(1, -(-max(r1 - r0, c1 - c0) // most_cells))
    return Scene(
        raster.x0 + c0 * raster.cell,
        raster.y0 + r0 * raster.cell,
        raster.cell * factor,
        _mean(difference.before[cut], factor),
        _mean(difference.after[cut], factor),
        _mean(difference.change[cut], factor),
        _most(analysis.labels[cut], factor),
    )


def change_limit(analysis: Analysis) -> float:
    """Return the end of the colour scale, m: most of what moved stays inside, and it is never below noise."""
    inside = np.abs(analysis.difference.change[(analysis.labels > 0) & np.isfinite(analysis.difference.change)])
    high = float(np.quantile(inside, 0.98)) if inside.size else 0.0
    wish = max(high, (2 if inside.size else 4) * analysis.errors.lod95, 1e-3)
    power = 10.0 ** np.floor(np.log10(wish))
    return float(next(power * s for s in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if power * s >= wish * 0.999))


def grey_relief(scene: Scene, light: float = np.radians(135)) -> NDArray[np.float32]:
    """Return the ground as brightness and opacity, shape (rows, cols, 2): shaded, paler where one survey saw it.

    Args:
        scene: What to show.
        light: Where the light comes from, radians anticlockwise from east.
    """
    height = small_gaps_closed(np.where(np.isfinite(scene.after), scene.after, scene.before))
    bright = np.clip(0.92 * shade(height, scene.cell, _relief_factor(height, scene.cell), light), 0, 1)
    only_one = ~np.isfinite(small_gaps_closed(scene.change)) & (scene.labels == 0)
    bright[only_one] = 0.5 * bright[only_one] + 0.48
    return np.stack([bright, np.isfinite(height).astype(np.float32)], axis=-1)


def tint(scene: Scene, limit: float, lod: float) -> NDArray[np.float32]:
    """Return the change above the detection limit as RGBA, shape (rows, cols, 4).

    Args:
        scene: What to show.
        limit: End of the colour scale, m.
        lod: Level of detection of one cell, m; smaller changes stay clear.
    """
    inside = scene.labels > 0
    change = np.where(inside, small_gaps_closed(scene.change), scene.change)
    moved = np.isfinite(change) & (inside | _together(change, lod))
    rgba = np.zeros((*change.shape, 4), np.float32)
    rgba[moved, :3] = colours(change[moved], limit)
    # outside of the hulls faint, and fainter the smaller: the eye takes every spot for a finding
    faint = 0.45 * np.clip(np.abs(change[moved]) / (0.2 * limit), 0, 1)
    rgba[moved, 3] = np.where(inside[moved], 1.0, faint)
    return rgba


def _together(change: Array, lod: float) -> NDArray[np.bool_]:
    """Return where a change above the limit has company of its sign: of many cells, some exceed it by chance."""
    found = np.zeros(change.shape, bool)
    for beyond in (change > lod, change < -lod):
        found |= beyond & (uniform_filter(beyond.astype(np.float32), 3) > _COMPANY)
    return found


def _span(low: float, high: float, cell: float, count: int) -> tuple[int, int]:
    first = int(np.clip(np.floor(low / cell), 0, count - 1))
    return first, int(np.clip(np.ceil(high / cell), first + 1, count))


def _blocks(grid: NDArray[np.float64], factor: int, empty: float) -> NDArray[np.float64]:
    rows, cols = (-(-n // factor) for n in grid.shape)
    room = np.full((rows * factor, cols * factor), empty, grid.dtype)
    room[: grid.shape[0], : grid.shape[1]] = grid
    return room.reshape(rows, factor, cols, factor)


def _mean(grid: Array, factor: int) -> Array:
    if factor == 1:
        return grid
    blocks = _blocks(grid, factor, np.nan)
    seen = np.isfinite(blocks)
    count = seen.sum(axis=(1, 3))
    total = np.where(seen, blocks, 0.0).sum(axis=(1, 3))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _most(labels: NDArray[np.int32], factor: int) -> NDArray[np.int32]:
    if factor == 1:
        return labels
    blocks: NDArray[np.int32] = _blocks(labels.astype(np.float64), factor, 0).max(axis=(1, 3)).astype(np.int32)
    return blocks


def _relief_factor(height: Array, cell: float) -> float:
    """Exaggerate gentle ground until its steeper slopes show, and never flatten it."""
    if min(height.shape) < 2:
        return 1.0
    rise_y, rise_x = np.gradient(height, cell)
    slope = np.hypot(rise_x, rise_y)
    slope = slope[np.isfinite(slope)]
    steep = float(np.quantile(slope, 0.9)) if slope.size else 0.0
    return float(np.clip(0.4 / max(steep, 1e-6), 1.0, 6.0))
