"""What of a cell on the common edge of cut and fill is cut, and what is fill? Its points tell, one by one."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from pipeline.volume_change.delineation import seam_kernels as kernels
from pipeline.volume_change.delineation.changes import Changes
from pipeline.volume_change.delineation.growth import Field, Labels
from pipeline.volume_change.types import Array, Mask, Raster

REACH = 2  # cells from the other side: growth by whole rings may end a cell beside the seam
FEWEST = 4  # points of a cell that is split
SIGNS = (1, -1)


@dataclass(frozen=True, slots=True)
class Side:
    """The fill, or the cut, of the cells on seams; all arrays have shape (rows, cols).

    Args:
        owner: Number of the hull that the part belongs to, 0 where the cell is on no seam.
        part: Its mean over the whole cell, m, of the sign of the side.
        variance: White variance of ``part``, m².
        share: Of the cell that it covers.
    """

    owner: Labels
    part: Array
    variance: Array
    share: Array


Seams = dict[int, Side]
"""By sign: +1 fill, −1 cut; empty if no cut touches a fill."""
Box = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Own:
    """What belongs to one hull, in a window of the raster.

    Args:
        drawn: Cells that are its own at least in part.
        height: Height change that is its own, m; 0 where not ``drawn``.
        variance: White variance of ``height`` on seams, m²; 0 elsewhere.
        portion: Share of the cells on its seams that is its own; NaN elsewhere.
    """

    drawn: Mask
    height: Array
    variance: Array
    portion: Array


def own_part(number: int, sign: int, inside: Mask, change: Array, box: Box, seams: Seams) -> Own:
    """Return what belongs to a hull: its cells, on seams its part of them.

    Args:
        number: Of the hull.
        sign: +1 fill, −1 cut.
        inside: Its cells, a window of the raster.
        change: Height change in the window, m; finite inside.
        box: The window.
        seams: The cells that cut and fill share.
    """
    height, nothing, portion = np.where(inside, change, 0.0), np.zeros(inside.shape), np.full(inside.shape, np.nan)
    if sign not in seams:
        return Own(inside, height, nothing, portion)
    side = seams[sign]
    mine = side.owner[box] == number
    return Own(
        inside | mine,
        np.where(mine, side.part[box], height),
        np.where(mine, side.variance[box], nothing),
        np.where(mine, side.share[box], portion),
    )


def split_seams(
    changes: Changes, field: Field, before: Array, before_variance: Array, after: Iterable[Array], raster: Raster
) -> Seams:
    """Split the cells where cut touches fill: the mean of such a cell, in which both cancel, is neither's.

    A point of the later survey above the ground of the earlier one is fill, one below it is cut. Where the height
    changes with slope k along the seam, noise of σ feigns σ²/2k of each a metre, which is nothing; at a wall it feigns
    nothing at all. Both parts of a cell together stay what the cell measured.

    Args:
        changes: What was found.
        field: The measurements.
        before: Ground of the earlier survey, m, shape (rows, cols); NaN where unseen.
        before_variance: Of it, m².
        after: Ground points of the later survey, registered, block by block, shape (n, 3) each.
        raster: The grid.
    """
    signs = changes.signs[changes.labels]
    beside, near = (
        {sign: maximum_filter((signs == sign).astype(np.uint8), 2 * reach + 1) > 0 for sign in SIGNS}
        for reach in (1, REACH)
    )
    seam = np.where(signs == 0, beside[1] & beside[-1], near[1] & near[-1])
    rows, cols = np.nonzero(seam & field.usable)
    if not len(rows):
        return {}
    slots = np.full(signs.shape, -1, np.int32)
    slots[rows, cols] = np.arange(len(rows))
    planes = np.column_stack([before[rows, cols], *(s[rows, cols] / raster.cell for s in _slopes(before))])
    sums = np.zeros((len(rows), 7))
    for points in after:
        kernels.add_parts(points, raster.x0, raster.y0, raster.cell, slots, planes, sums)
    count = np.maximum(sums[:, 0], 1.0)
    means = {1: sums[:, 2] / count, -1: sums[:, 5] / count}
    shares = {1: sums[:, 1] / count, -1: sums[:, 4] / count}
    left = changes.change[rows, cols] - means[1] - means[-1]
    known = sums[:, 0] >= FEWEST
    seams = {}
    for sign, squares in zip(SIGNS, (sums[:, 3], sums[:, 6]), strict=True):
        owner = np.where(known, _owners(changes, sign, rows, cols), 0)
        spread = np.maximum(squares / count - means[sign] ** 2, 0.0) / np.maximum(count - 1.0, 1.0)
        variance = spread + field.covariance.white * before_variance[rows, cols] * shares[sign] ** 2
        values = (owner, means[sign] + shares[sign] * left, variance, shares[sign])
        grids = [np.zeros(signs.shape, v.dtype) for v in values]
        for grid, value in zip(grids, values, strict=True):
            grid[rows, cols] = value
        seams[sign] = Side(*grids)
    return seams


def _slopes(height: Array) -> tuple[Array, Array]:
    """Return the rise of a surface along x and y, m a cell: of both neighbours or of the one that was seen."""
    found = []
    for axis in (1, 0):
        padded = np.pad(height, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], constant_values=np.nan)
        steps = np.diff(padded, axis=axis)
        ahead, behind = (np.take(steps, range(a, a + height.shape[axis]), axis=axis) for a in (1, 0))
        known = np.isfinite(ahead).astype(float) + np.isfinite(behind)
        found.append((np.nan_to_num(ahead) + np.nan_to_num(behind)) / np.maximum(known, 1.0))
    return found[0], found[1]


def _owners(changes: Changes, sign: int, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> Labels:
    """Return for each cell the hull of a sign that holds most of the cells around; its own, if of that sign."""
    padded, steps = np.pad(changes.labels, REACH), range(2 * REACH + 1)
    around = np.stack([padded[rows + i, cols + j] for i in steps for j in steps])
    around = np.where(changes.signs[around] == sign, around, 0)
    votes = (around[:, None] == around[None]).sum(axis=0) * (around > 0)
    most = np.take_along_axis(around, votes.argmax(axis=0)[None], axis=0)[0]
    own = changes.labels[rows, cols]
    return np.asarray(np.where(changes.signs[own] == sign, own, most), dtype=np.int32)
