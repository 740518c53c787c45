"""Fixed budgets of points and anchors, so that the cost of registration does not grow with the surveys."""

from dataclasses import dataclass

import numpy as np
import shapely
from scipy.ndimage import binary_dilation

from pipeline.clouds import Cloud
from pipeline.geometry import raster_kernels
from pipeline.geometry.cells import CellList, cylinder_stats, normals
from pipeline.geometry.extent import grid_over
from pipeline.geometry.rigid import apply, inverse
from pipeline.volume_change.types import Array, Mask

THINNABLE = 1_000_000  # points looked at to make the thinned clouds
COARSE, MIDDLE = 8_000, 25_000  # points of the thinned clouds, at most
COARSE_SPACINGS, MIDDLE_SPACINGS = 8.0, 4.0  # their cells, at least
ANCHORS = 50_000  # of the whole site; their cylinders hold most of the points that are indexed
WITNESSES = 8_000  # of the anchors, to count how many agree
INDEXED = 800_000  # points of each survey that are indexed
CORE_SPACINGS = 2.5  # radius of a cylinder
NORMAL_SPACINGS = 5.0  # radius of a plane fit
TILE_SPACINGS = 40.0
REACH = 4.0  # cylinder radii around an anchor that must be indexed
FEWEST_POINTS = 6  # in a plane fit
COLUMN = 1e6  # m: half the length of an upright cylinder that holds whatever is there
ROUGHEST = 3.0  # times the median roughness
_MASK_CELLS = 160_000
_MOST_CELLS = 16_000_000
_GOLDEN = 0.618
_PRIME = 100_003


@dataclass(frozen=True, slots=True)
class Thinned:
    """A cloud of cell centroids.

    Args:
        points: Metres, shape (m, 3).
        cell: Edge of the cells, metres.
    """

    points: Array
    cell: float


def thinned(points: Array, spacing: float, spacings: float, budget: int) -> Thinned:
    """Average the points of each cell, with cells large enough for the budget.

    Args:
        points: Metres, shape (n, 3).
        spacing: The larger mean spacing of the pair, metres.
        spacings: Smallest edge of a cell in spacings.
        budget: How many centroids there may be, about.
    """
    points = points[:: max(1, len(points) // THINNABLE)]
    cell = spacings * spacing
    for _ in range(8):
        x0, y0, cell, rows, cols = grid_over(points, cell, _MOST_CELLS)
        count, *sums = raster_kernels.cell_sums(points, np.eye(4), x0, y0, cell, rows, cols)
        held = count > 0
        if held.sum() <= 1.2 * budget:
            break
        cell *= float(np.sqrt(held.sum() / budget))
    return Thinned(np.column_stack([total[held] / count[held] for total in sums]), cell)


@dataclass(frozen=True, slots=True)
class Region:
    """Where anchors may lie, on a grid; None as mask means everywhere.

    Args:
        mask: Cells with anchors, shape (rows, cols).
        wide: The same and all cells that an anchor's cylinder may reach.
        x0: Lowest x, metres.
        y0: Lowest y, metres.
        cell: Edge of a cell, metres.
    """

    mask: Mask
    wide: Mask
    x0: float
    y0: float
    cell: float

    def pick(self, cloud: Cloud, matrix: Array, *, wide: bool) -> Array:
        """Return the points that ``matrix`` moves into the region, at most about ``INDEXED`` of them."""
        mask = self.wide if wide else self.mask
        found = np.vstack(
            [
                raster_kernels.inside(block.points, matrix, mask, self.x0, self.y0, self.cell, 1)
                for block in cloud.blocks()
            ]
        )
        return found[:: max(1, round(len(found) / INDEXED))]


def tiles(cloud: Cloud, spacing: float, area: shapely.MultiPolygon | None) -> Region:
    """Choose where to look: well-spread square tiles that hold about ``INDEXED`` points at this spacing.

    Args:
        cloud: The reference survey.
        spacing: The larger mean spacing of the pair, metres.
        area: Only tiles in these polygons; None for the whole survey.
    """
    edge = TILE_SPACINGS * spacing
    radius = CORE_SPACINGS * spacing
    corners = cloud.outline() if area is None else np.array(area.bounds).reshape(2, 2)
    x0, y0, cell, rows, cols = grid_over(corners, max(edge / 8 if area is None else radius, 1e-6), _MASK_CELLS)
    x, y = x0 + (np.arange(cols) + 0.5) * cell, y0 + (np.arange(rows) + 0.5) * cell
    if area is None:
        mask = raster_kernels.cell_sums(cloud.sample(THINNABLE), np.eye(4), x0, y0, cell, rows, cols)[0] > 0
    else:
        # A cell counts if its middle is near the polygons; the anchors themselves are tested exactly.
        shapely.prepare(grown := area.buffer(cell))
        mask = shapely.contains_xy(grown, *np.meshgrid(x, y))
    reach = int(np.ceil(REACH * radius / cell))
    skip = int(np.ceil(_share(mask, reach, cell, spacing)))
    if skip > 1:
        shift = max(1, round(skip * _GOLDEN))
        mask &= (np.floor((x - x0) / edge)[None, :] + shift * np.floor((y - y0) / edge)[:, None]) % skip == 0
    return Region(*_padded(mask, reach), x0 - reach * cell, y0 - reach * cell, cell)


def _share(mask: Mask, reach: int, cell: float, spacing: float) -> float:
    """How many times more points the masked cells hold than may be indexed, rims included."""
    held = mask.sum() * (cell / spacing) ** 2
    if held <= 1.5 * INDEXED:
        return 1.0
    edge = TILE_SPACINGS * spacing
    return float(held * ((edge + 2 * reach * cell) / edge) ** 2 / INDEXED)


def _padded(mask: Mask, reach: int) -> tuple[Mask, Mask]:
    mask = np.pad(mask, reach)
    return mask, binary_dilation(mask, np.ones((3, 3), dtype=bool), iterations=reach) if reach else mask


@dataclass(frozen=True, slots=True)
class Anchors:
    """Places where the two surveys are compared along a normal of the reference.

    Args:
        points: Points of the reference survey, metres, shape (m, 3).
        normals: Unit normals, upward, shape (m, 3).
        roughness: Spread across the plane around each, metres, shape (m,).
        height: Mean distance of the reference's own points along the normal, metres, shape (m,).
        variance: Of that mean, m², shape (m,).
        upright: Mean vertical distance of the reference's points in an upright cylinder, metres, shape (m,).
        radius: Of the cylinders, metres.
    """

    points: Array
    normals: Array
    roughness: Array
    height: Array
    variance: Array
    upright: Array
    radius: float

    def __len__(self) -> int:
        return len(self.points)

    def select(self, keep: Mask) -> "Anchors":
        """Return the anchors where ``keep`` is true."""
        return Anchors(
            self.points[keep],
            self.normals[keep],
            self.roughness[keep],
            self.height[keep],
            self.variance[keep],
            self.upright[keep],
            self.radius,
        )

    def sampled(self, most: int) -> "Anchors":
        """Return at most so many of the anchors, well spread."""
        keep = np.zeros(len(self), dtype=bool)
        # A prime stride visits a row-ordered grid of anchors all over, whatever its width.
        keep[np.arange(min(most, len(self))) * _PRIME % max(len(self), 1)] = True
        return self.select(keep) if len(self) > most else self


def spread_anchors(cloud: Cloud, spacing: float, region: Region, area: shapely.MultiPolygon | None = None) -> Anchors:
    """Pick well-spread points of the reference with a plane around each.

    Args:
        cloud: The reference survey.
        spacing: The larger mean spacing of the pair, metres.
        region: Where to look.
        area: Polygons that anchors must lie in, exactly; None for no limit.
    """
    near = region.pick(cloud, np.eye(4), wide=True)
    radius = CORE_SPACINGS * spacing
    chosen = raster_kernels.inside(near, np.eye(4), region.mask, region.x0, region.y0, region.cell, 1)
    if len(chosen):
        cell = max(spacing, float(np.sqrt(region.mask.sum() * region.cell**2 / ANCHORS)))
        chosen = chosen[raster_kernels.central_in_cells(chosen, *grid_over(chosen, cell, _MOST_CELLS))]
    if area is not None and len(chosen):
        shapely.prepare(area)
        chosen = chosen[shapely.contains_xy(area, chosen[:, 0], chosen[:, 1])]
    index = CellList.build(near, radius)
    direction, roughness, count = normals(index, chosen, NORMAL_SPACINGS * spacing)
    usual = float(np.median(roughness[count >= FEWEST_POINTS])) if (count >= FEWEST_POINTS).any() else 0.0
    good = (count >= FEWEST_POINTS) & (roughness <= ROUGHEST * usual + 1e-9)
    chosen, direction, roughness = chosen[good], direction[good], roughness[good]
    held, height, variance = cylinder_stats(index, chosen, direction, radius, max(2 * radius, 8 * usual))
    _, upright, _ = cylinder_stats(index, chosen, upward(len(chosen)), radius, COLUMN)
    anchors = Anchors(chosen, direction, roughness, height, variance / np.maximum(held, 1), upright, radius)
    return anchors.select(held >= 2)


def upward(count: int) -> Array:
    """Return so many vertical unit vectors, shape (count, 3)."""
    return np.tile([0.0, 0.0, 1.0], (count, 1))


class Later:
    """The later survey, indexed where the anchors of a region look under some motion.

    Args:
        cloud: The survey.
        spacing: The larger mean spacing of the pair, metres.
        region: Where the anchors lie, in the reference's frame.
    """

    def __init__(self, cloud: Cloud, spacing: float, region: Region) -> None:
        self._cloud = cloud
        self._region = region
        self._cell = CORE_SPACINGS * spacing
        self._matrix = np.full((4, 4), np.nan)
        self._index = CellList.build(np.zeros((0, 3)), self._cell)

    def at(self, matrix: Array) -> CellList:
        """Return an index that holds what anchors see if the survey is moved by ``matrix`` (4 × 4)."""
        rows, cols = self._region.mask.shape
        corners = np.array([[0.0, 0, 0], [cols, 0, 0], [0, rows, 0], [cols, rows, 0]]) * self._region.cell
        corners += [self._region.x0, self._region.y0, 0]
        shifts = apply(inverse(matrix), corners) - apply(inverse(self._matrix), corners)
        if not np.abs(shifts[:, :2]).max() <= self._cell:
            self._matrix = matrix
            self._index = CellList.build(self._region.pick(self._cloud, matrix, wide=True), self._cell)
        return self._index
