"""Where the ground lies beneath what stands on it: a morphological filter."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, grey_closing, maximum_filter, minimum_filter

from pipeline.clouds import Cloud, Points
from pipeline.geometry import raster_kernels
from pipeline.geometry.extent import grid_over
from pipeline.volume_change.types import Array, Mask

CELL_SPACINGS = 3.0  # a cell of the filter, in point spacings: about 9 points
LARGEST_RADIUS = 4.0  # m: wider things are ground
STEEPEST = 1.2  # rise over run beyond which what an opening removes is an object
PIT_SLOPE = 5.0  # a single cell deeper than this per cell is a stray echo from below
TOLERANCE = 0.25  # m above or below the surface
RELAXATIONS = 60
_MOST_CELLS = 64_000_000
_CELLS_PER_POINT = 32
_NOISE_SAMPLE = 100_000


@dataclass(frozen=True, slots=True)
class GroundSurface:
    """Where the ground lies, and how far a point may be from it; grids of shape (rows, cols).

    Args:
        height: Elevation at each cell's centre, metres.
        slack: How far a ground point may lie above it, without its noise, metres.
        behind: The highest of the cell and its neighbours, each at its lower corner, metres.
        tilt: Rise of the ground across a cell, metres.
        noise: Height of ground points above the lowest of their cell, metres.
        x0: Lowest x, metres.
        y0: Lowest y, metres.
        cell: Edge of a cell, metres.
    """

    height: Array
    slack: Array
    behind: Array
    tilt: Array
    noise: float
    x0: float
    y0: float
    cell: float

    def tell(self, points: Points) -> NDArray[np.uint8]:
        """Return 1 for ground, 2 for what stands above it and 0 for stray echoes from below, shape (n,)."""
        above, slack = self.heights(points)
        # Twice the slack below: only a stray echo lies under the lowest points, or else the surface is too coarse.
        high = above > slack + 3 * self.noise
        # The brink of a face or a trench shares its cell with the foot; it is level with the cell behind it.
        brink, _ = raster_kernels.heights(points[high], self.behind, self.tilt, self.x0, self.y0, self.cell)
        high[high] = np.abs(brink) > TOLERANCE + 3 * self.noise
        return np.where(high, np.uint8(2), (above >= -2 * slack).astype(np.uint8))

    def heights(self, points: Points) -> tuple[Array, Array]:
        """Return how far each point lies above the surface, and how far it may, metres, shape (n,) each."""
        above, slack = raster_kernels.heights(points, self.height, self.slack, self.x0, self.y0, self.cell)
        return above, slack


def ground_surface(cloud: Cloud, spacing: float) -> GroundSurface:
    """Find the ground by its shape.

    The lowest point of each cell makes a surface. Openings with growing windows take away what is narrower
    than the window and rises from its surroundings by more than ``STEEPEST`` times the window's radius;
    the gap is closed by a soap film. A point near the surface is ground. Faces, stockpiles and benches
    stay, because the height that is allowed grows with the window and is not capped.

    Args:
        cloud: The survey.
        spacing: Its mean point spacing, metres.

    Source:
        Simple morphological filter, Pingel et al. (2013), doi:10.1016/j.isprsjprs.2012.12.002, with one
        opening slope of 1.2 and a radius of 4 m, so that quarry faces remain.
    """
    most_cells = min(_MOST_CELLS, _CELLS_PER_POINT * len(cloud) + 4096)
    x0, y0, cell, rows, cols = grid_over(cloud.outline(), CELL_SPACINGS * spacing, most_cells)
    low = np.full((rows, cols), np.nan)
    for block in cloud.blocks():
        raster_kernels.lowest(block.points, x0, y0, cell, low)
    surface = _nearest(low)
    pits = grey_closing(surface, size=(3, 3)) - surface > max(PIT_SLOPE * cell, 1.0)
    surface = _filled(surface, np.isnan(low) | pits)
    objects = _objects(surface, cell)
    surface = _filled(surface, objects | np.isnan(low) | pits)
    tilt = steepness(surface) * cell
    # The lowest point of a tilted cell lies at its lower corner: half a cell down along both axes.
    height, slack = surface + tilt / 2, tilt / 2 + TOLERANCE
    found = GroundSurface(height, slack, maximum_filter(surface, 3), tilt, 0.0, x0, y0, cell)
    # The lowest of about nine noisy points lies below the mean; q25 tells by how much without being
    # drawn up by vegetation.
    above, _ = found.heights(cloud.sample(_NOISE_SAMPLE))
    return replace(found, noise=min(max(float(np.quantile(above, 0.25)), 0.0), TOLERANCE))


def _objects(surface: Array, cell: float) -> Mask:
    """Cells that stand out of their surroundings, by openings of growing radius."""
    found = np.zeros(surface.shape, dtype=bool)
    last = max(1, round(LARGEST_RADIUS / cell))
    current = surface
    for radius in sorted({min(last, r) for r in (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 26, 32, 40)}):
        size = 2 * radius + 1
        # min then max: scipy's grey_opening would do the same without the separable filters' speed.
        opened = maximum_filter(minimum_filter(current, size, mode="nearest"), size, mode="nearest")
        # by reconstruction: what is wide enough keeps its corners and its rounded brinks
        opened = raster_kernels.regrown(opened, current, radius)
        found |= current - opened > STEEPEST * radius * cell
        current = opened
    return found


def _nearest(surface: Array) -> Array:
    """Fill NaN cells with the nearest known one."""
    gaps = np.isnan(surface)
    if not gaps.any():
        return surface
    rows, cols = distance_transform_edt(gaps, return_distances=False, return_indices=True)
    return np.asarray(surface[rows, cols])


def _filled(surface: Array, unknown: Mask) -> Array:
    """Close the unknown cells by a soap film over the others; nothing to go by leaves them as they are."""
    if unknown.all() or not unknown.any():
        return surface
    film = _nearest(np.where(unknown, np.nan, surface))
    raster_kernels.relax(film, unknown, RELAXATIONS)
    return film


def steepness(surface: Array) -> Array:
    """Return the rise per cell along x plus along y: the larger one-sided difference on each axis, 0 where unknown."""
    total = np.zeros_like(surface)
    for axis in (0, 1):
        step = np.nan_to_num(np.abs(np.diff(surface, axis=axis)))
        before = np.pad(step, [(1, 0) if a == axis else (0, 0) for a in (0, 1)])
        after = np.pad(step, [(0, 1) if a == axis else (0, 0) for a in (0, 1)])
        total += np.maximum(before, after)
    return total
