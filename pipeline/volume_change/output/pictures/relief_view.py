"""A shaded relief seen from the side: a small ray caster for height grids.

Each column of the picture is a line over the ground. Going away from the eye, the highest point on the
page so far hides all that is lower; so one walk along the line, drawing only what rises above all before,
tells what each pixel shows. That is exact, needs no triangles, and takes milliseconds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, gaussian_filter

from pipeline.volume_change.output.pictures import relief_kernels as kernels

Grid = NDArray[np.float64]
Rgb = NDArray[np.float32]

_ELEVATION = np.radians(32.0)  # of the eye above the ground
_SOIL = np.array([0.45, 0.42, 0.39], np.float32)
_FACTORS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)


@dataclass(frozen=True, slots=True)
class Camera:
    """Where one looks from, shared by the pictures before and after.

    Args:
        azimuth: Direction of view over the ground, radians anticlockwise from east.
        exaggeration: Factor of the heights.
        bottom: Elevation of the block's foot, m.
        top: Highest elevation shown, m.
    """

    azimuth: float
    exaggeration: float
    bottom: float
    top: float

    @property
    def seen_from(self) -> str:
        """The side one looks from, such as ``south-west``."""
        names = ("east", "north-east", "north", "north-west", "west", "south-west", "south", "south-east")
        return names[round(((self.azimuth + np.pi) % (2 * np.pi)) / (np.pi / 4)) % 8]


def camera_for(before: Grid, after: Grid, cell: float) -> Camera:
    """Return a view from the low side, with heights exaggerated only as far as the relief needs it.

    Args:
        before: Elevations, m, shape (rows, cols), row 0 in the south; NaN where unseen.
        after: The same later.
        cell: Edge of a cell, m.
    """
    both = np.concatenate([before[np.isfinite(before)], after[np.isfinite(after)]])
    if not both.size:
        return Camera(np.radians(60.0), 1.0, 0.0, 1.0)
    low, high = (float(v) for v in np.quantile(both, [0.002, 0.998]))
    span = float(np.hypot(*before.shape)) * cell
    wish = 0.2 * span / max(high - low, 1e-9)
    exaggeration = max((f for f in _FACTORS if f <= wish), default=1.0)
    rise_y, rise_x = np.gradient(np.where(np.isfinite(after), after, np.nan), cell)
    uphill = float(np.nanmedian(rise_x)) if np.isfinite(rise_x).any() else 0.0
    northward = float(np.nanmedian(rise_y)) if np.isfinite(rise_y).any() else 0.0
    steep = np.hypot(uphill, northward) > 0.05
    azimuth = np.arctan2(northward, uphill) if steep else np.radians(60.0)
    # looking along an edge flattens the block: turn to at least 25° from every edge
    quarter = azimuth % (np.pi / 2)
    azimuth += np.clip(quarter, np.radians(25), np.radians(65)) - quarter
    return Camera(float(azimuth), exaggeration, low - 0.06 * span / exaggeration, high)


def relief(
    height: Grid, colour: Rgb, outline: NDArray[np.bool_], cell: float, camera: Camera, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Return a picture of a height grid, RGBA, shape (size[1], size[0], 4), row 0 on top.

    Args:
        height: Elevations, m, shape (rows, cols), row 0 in the south; NaN = hole.
        colour: Colour of each cell before shading, shape (rows, cols, 3).
        outline: Cells of the change, whose edge is drawn, shape (rows, cols).
        cell: Edge of a cell, m.
        camera: From where.
        size: Width and height of the picture, px.
    """
    across, away, scale, lowest = _frame(height.shape, cell, camera, size)
    look = float(np.cos(camera.azimuth)), float(np.sin(camera.azimuth))
    tilt = float(np.sin(_ELEVATION)), float(np.cos(_ELEVATION)) * camera.exaggeration
    foot = (tilt[0] * float(away[0]) - lowest) * scale
    across, away = across / cell, away / cell
    page = tilt[0] * cell * scale, tilt[1] * scale, camera.bottom, foot, float(away[0])
    # Windows of larger grids would have the kernels compiled once more, for another layout.
    height, colour = np.ascontiguousarray(height), np.ascontiguousarray(colour)
    shown, first = kernels.cast(height, across, away, look, page, size[1])
    bright = shade(height, cell, camera.exaggeration, camera.azimuth + np.radians(125))
    picture, cell_of = kernels.paint(shown, across, away, look, colour, bright)
    picture[_edges((cell_of >= 0) & outline.ravel()[cell_of])] = (0.08, 0.09, 0.11, 1)
    # left of the corner that is nearest to the eye lies the block's left face, in the shade
    face = _SOIL * np.where(np.arange(size[0]) < first.argmin(), 0.82, 1.0).astype(np.float32)[:, None]
    wall = shown == -2
    picture[wall, :3] = face[np.nonzero(wall)[1]]
    picture[wall, 3] = 1
    result: NDArray[np.float32] = picture[::-1]
    return result


def small_gaps_closed(height: Grid, cells: int = 3) -> Grid:
    """Return heights with gaps narrower than ``2 * cells`` filled from around; for drawing only.

    >>> gap = np.ones((9, 9)); gap[4, 4] = np.nan
    >>> bool(np.isnan(small_gaps_closed(gap)).any())
    False
    """
    seen = np.isfinite(height)
    if seen.all() or not seen.any():
        return height
    padded = np.pad(seen, cells + 1, mode="edge")
    closed = binary_closing(padded, iterations=cells)[cells + 1 : -cells - 1, cells + 1 : -cells - 1]
    gaps = closed & ~seen
    level = float(np.nanmedian(height))  # keeps digits: elevations may be large against their differences
    weight = gaussian_filter(seen.astype(np.float64), cells / 2)
    smooth = gaussian_filter(np.where(seen, height - level, 0.0), cells / 2)
    return np.where(gaps & (weight > 1e-6), smooth / np.maximum(weight, 1e-6) + level, height)


def shade(height: Grid, cell: float, exaggeration: float, light: float) -> Rgb:
    """Return the brightness of each cell under a lamp 45° up, 0.35 to 1.1; flat ground is about 0.9.

    Args:
        height: Elevations, m, shape (rows, cols), row 0 in the south.
        cell: Edge of a cell, m.
        exaggeration: Factor of the heights.
        light: Direction the light comes from, radians anticlockwise from east.
    """
    if min(height.shape) < 2:
        return np.full(height.shape, 0.9, np.float32)
    rise_y, rise_x = np.gradient(height * exaggeration, cell)
    facing = -(rise_x * np.cos(light) + rise_y * np.sin(light)) + 1.0
    bright = facing / np.sqrt(2 * (rise_x**2 + rise_y**2 + 1))
    result: Rgb = np.nan_to_num(np.clip(0.35 + 0.78 * bright, 0.35, 1.12), nan=0.9).astype(np.float32)
    return result


def _frame(
    shape: tuple[int, int], cell: float, camera: Camera, size: tuple[int, int]
) -> tuple[Grid, Grid, float, float]:
    """Return metres across the page per column, metres away per sample, pixels per metre, and the lower edge."""
    half_y, half_x = (shape[0] - 1) * cell / 2, (shape[1] - 1) * cell / 2
    sine, cosine = abs(np.sin(camera.azimuth)), abs(np.cos(camera.azimuth))
    half_width = half_x * sine + half_y * cosine
    half_depth = half_x * cosine + half_y * sine
    tall = np.cos(_ELEVATION) * camera.exaggeration * (camera.top - camera.bottom)
    needed = 2 * half_depth * np.sin(_ELEVATION) + tall
    scale = 0.98 * min(size[0] / (2 * half_width), size[1] / needed)
    across = (np.arange(size[0]) + 0.5 - size[0] / 2) / scale
    step = min(cell, 1.5 / scale)  # the ground is seen foreshortened: more samples than this share a pixel
    away = np.linspace(-half_depth, half_depth, max(2, min(1600, int(2 * half_depth / step) + 1)))
    lowest = -half_depth * np.sin(_ELEVATION) - (size[1] / scale - needed) / 2
    return across, away, float(scale), float(lowest)


def _edges(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    edge = np.zeros_like(mask)
    for axis in (0, 1):
        step = np.diff(mask, axis=axis)
        near = tuple(slice(None, -1) if a == axis else slice(None) for a in (0, 1))
        far = tuple(slice(1, None) if a == axis else slice(None) for a in (0, 1))
        edge[near] |= step
        edge[far] |= step
    return edge
