"""Which of what a ground filter took off stands there as earth may, so that it has to be measured?"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import binary_dilation, find_objects, label

from pipeline.clouds import Cloud
from pipeline.geometry import raster_kernels
from pipeline.volume_change.comparison import difference_kernels as kernels
from pipeline.volume_change.comparison.difference import Surface, moments_of
from pipeline.volume_change.ground_filter import TOLERANCE, steepness
from pipeline.volume_change.types import EIGHT, Array, Mask, Raster

SMALLEST_OBJECT = 1.5  # m²: what covers less leaves no low parts behind that would be taken for ground
MOST_ABOVE = 0.15  # share of points above the ground from which a cell's filtered ground is not to be trusted
COVERED = 0.9  # share from which nothing was seen beneath: plants let one point in five or so through
SOLID = 0.15  # share of a blob's cells that must be covered: those along its outline hold ground as well
SMOOTH, SMOOTH_NOISES = 0.12, 3.0  # m, and usual scatters of ground points: what lies closer to a plane has a top
COMMON = 0.3  # share of a blob's cells beyond which the other survey shows it as well


@dataclass(frozen=True, slots=True)
class Above:
    """What a ground filter took off in one survey; all arrays have shape (rows, cols).

    Args:
        share: Of each cell's points.
        level: Their mean height, m; NaN where there are none.
        scatter: Standard deviation about a plane of their own, m; NaN below two points.
    """

    share: Array
    level: Array
    scatter: Array

    @property
    def much(self) -> Mask:
        """Cells whose ground would not be trusted."""
        return np.asarray(self.share > MOST_ABOVE)


@dataclass(frozen=True, slots=True)
class Standing:
    """One survey with the points put back that stand as earth may; all arrays have shape (rows, cols).

    Args:
        surface: The ground, with those points.
        above: Share of the points that are not ground.
        doubtful: Cells whose ground is not to be trusted.
        whole: Cells that were put back as parts of a whole: a heap between walls, or a vehicle.
    """

    surface: Surface
    above: Array
    doubtful: Mask
    whole: Mask


def see_above(cloud: Cloud, ground: Surface, raster: Raster) -> Above:
    """Bin what stands above the ground.

    Args:
        cloud: The points that are not ground.
        ground: The ground of the same survey.
        raster: The grid.
    """
    shape = (raster.rows, raster.cols)
    if not len(cloud):
        return Above(np.zeros(shape), np.full(shape, np.nan), np.full(shape, np.nan))
    z0 = _level(ground)
    sums = moments_of((block.points for block in cloud.blocks()), raster, z0)
    count = sums[:, 0].reshape(shape)
    level = np.where(count > 0, sums[:, 3].reshape(shape) + z0, np.nan)
    scatter = np.sqrt(kernels.detrended(sums, raster.rows, raster.cols, raster.cell)[4]).reshape(shape)
    return Above(count / np.maximum(count + ground.count, 1.0), level, scatter)


def put_back(
    cloud: Cloud, taken: Cloud, own: tuple[Surface, Above], other: tuple[Surface, Above], raster: Raster
) -> Standing:
    """Put points back into one survey that its filter took but that may be earth.

    Two sorts: the brinks of walls, level with the ground in the next cell or with the ground that the other
    survey shows here; and what stands in this survey only, smooth on top and with no ground seen beneath, which
    is a heap between walls or a vehicle. What it is the score has to tell; not to look would hide the heap.

    Args:
        cloud: The ground points of this survey.
        taken: What its filter took.
        own: Its ground and what stands above.
        other: Those of the other survey.
        raster: The grid.
    """
    ground, above = own
    brink, whole = _brinks(ground, above, other[0]), _wholes(ground, above, other[1], raster.cell)
    back = (brink | binary_dilation(whole, EIGHT)) & (above.share > 0)
    share = np.where(back, 0.0, above.share)
    # A few stray points are no plant and no vehicle.
    pieces, _ = label(share > MOST_ABOVE, EIGHT)
    wide = np.bincount(pieces.ravel()) * raster.cell**2 >= SMALLEST_OBJECT
    wide[0] = False
    doubtful = binary_dilation(wide[pieces], EIGHT) & ~whole
    return Standing(_with(ground, cloud, taken, back, raster) if back.any() else ground, above.share, doubtful, whole)


def _brinks(ground: Surface, above: Above, other: Surface) -> Mask:
    """Cells whose points above are level with ground next to them, or with that of the other survey."""
    slack = TOLERANCE + steepness(other.height) / 2
    smooth = above.scatter <= _smoothest(ground)
    level = np.abs(above.level - other.height) <= slack
    sound = np.where(above.much, np.nan, ground.height)
    for rows, cols in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        level |= smooth & (np.abs(above.level - _shifted(sound, rows, cols)) <= slack)
    return np.asarray(level & (above.share > 0))


def _wholes(ground: Surface, above: Above, other: Above, cell: float) -> Mask:
    """Cells of blobs that one survey shows alone, that are smooth on top and let no ground be seen beneath."""
    pieces, _ = label(above.much, EIGHT)
    found = np.zeros(pieces.shape, dtype=bool)
    smoothest = _smoothest(ground)
    for number, box in enumerate(find_objects(pieces), start=1):
        cells = pieces[box] == number
        count = np.count_nonzero(cells)
        if count * cell**2 < SMALLEST_OBJECT or np.count_nonzero(other.much[box] & cells) > COMMON * count:
            continue
        covered = cells & (above.share[box] >= COVERED)
        scatter = above.scatter[box][covered & np.isfinite(above.scatter[box])]
        if len(scatter) >= SOLID * count and np.median(scatter) <= smoothest:
            found[box] |= cells
    return found


def _smoothest(ground: Surface) -> float:
    known = ground.roughness[np.isfinite(ground.roughness)]
    return max(SMOOTH, SMOOTH_NOISES * float(np.sqrt(np.median(known)))) if len(known) else SMOOTH


def _with(ground: Surface, cloud: Cloud, taken: Cloud, back: Mask, raster: Raster) -> Surface:
    """Return the surface of one survey with the points that were taken from some cells."""
    rows, cols, cell = raster.rows, raster.cols, raster.cell
    z0 = _level(ground)
    # The slope that heights are detrended by is that of the cells around.
    parts = (
        raster_kernels.inside(block.points, np.eye(4), mask, raster.x0, raster.y0, cell, 1)
        for points, mask in ((cloud, binary_dilation(back, EIGHT)), (taken, back))
        for block in points.blocks()
    )
    sums = moments_of(parts, raster, z0)
    height, count, residual, leverage, roughness = (
        grid.reshape(rows, cols)[back] for grid in kernels.detrended(sums, rows, cols, cell)
    )
    typical = float(np.nanmin(ground.scatter)) if np.isfinite(ground.scatter).any() else 0.0
    single = np.fmax(np.nan_to_num(residual), typical)
    grids = {name: getattr(ground, name).copy() for name in ("height", "variance", "count", "roughness", "scatter")}
    new = (height + z0, single * (1.0 / count + leverage), count, roughness, single)
    for grid, values in zip(grids.values(), new, strict=True):
        grid[back] = values
    return replace(ground, **grids)


def _level(ground: Surface) -> float:
    """A height to count from, m, which keeps squares small."""
    return float(np.nanmedian(ground.height)) if np.isfinite(ground.height).any() else 0.0


def _shifted(grid: Array, rows: int, cols: int) -> Array:
    """Return the value of the cell so many rows and columns on; NaN beyond the grid."""
    wide = np.pad(grid, 1, constant_values=np.nan)
    return wide[1 + rows : 1 + rows + grid.shape[0], 1 + cols : 1 + cols + grid.shape[1]]
