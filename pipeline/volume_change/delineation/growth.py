"""How far does each change reach? Whole rings are added until they no longer stand out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_fill_holes, find_objects, gaussian_filter

from pipeline.volume_change.comparison.difference import interpolated
from pipeline.volume_change.delineation import growth_kernels as kernels
from pipeline.volume_change.types import EIGHT, Array, Mask
from pipeline.volume_change.uncertainty.covariance import Covariance

ANNULUS = 4  # cells beyond the ring: what the ground around looks like
RING_SD = 1.0  # a ring belongs to the change while its mean exceeds this many standard deviations of noise
CORRELATED_SD = 1.5  # of the correlated part at one place: a bump of it lifts each ring alike
STEP_SE = 1.5  # and while it stands out of the annulus by this many standard errors of that step
CORRELATED_STEP = 2.5  # and by this many sds of how much the correlated part varies over that distance
MOST_RINGS = 400
SAME_CHANGE = 0.5  # border height over the lower hull's mean beyond which two hulls are one change
SPOILT = 3  # cells: a wall's points spoil the trust in cells this far, those with points above and their neighbours
AS_HIGH = 0.5  # of the change next to it: a doubtful cell that holds as much is the change's

Labels = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Field:
    """What the growth looks at; all arrays have shape (rows, cols).

    Args:
        change: Height change, m; finite where ``usable``.
        variance: White variance, m².
        usable: Cells that both surveys saw as ground.
        covariance: Of the errors.
        cell: Edge of a cell, m.
        share: Of each cell that both surveys saw; None = all of each.
        share_variance: Variance of that.
    """

    change: Array
    variance: Array
    usable: Mask
    covariance: Covariance
    cell: float
    share: Array | None = None
    share_variance: Array | None = None

    @property
    def shares(self) -> tuple[Array, Array]:
        """The share of each cell that was seen, and its variance."""
        if self.share is None or self.share_variance is None:
            return np.ones(self.change.shape), np.zeros(self.change.shape)
        return self.share, self.share_variance


def grow(labels: Labels, signs: NDArray[np.int8], field: Field, first: int = 1) -> None:
    """Grow the hulls numbered ``first`` and up by whole rings, in place.

    Picking single cells at the rim would pick their noise with them and bias the volume; a whole ring
    does not. All hulls grow in step, so the outcome does not depend on their order.

    Args:
        labels: Number of the hull of each cell, 0 = none.
        signs: +1 fill or −1 cut of each number, shape (n + 1,).
        field: The measurements.
        first: Lower numbers are finished and only stand in the way.
    """
    n = len(signs)
    boxes = _boxes(labels, n)
    active = np.arange(n) >= max(first, 1)
    previous = np.full(n, np.inf)
    sill = field.covariance.smoothed(0.0)
    distance = np.array((1 + ANNULUS) / 2 * field.cell)
    drift = CORRELATED_STEP**2 * 2 * float(sill - field.covariance.at(distance))
    for _ in range(MOST_RINGS):
        if not active.any():
            return
        ring, annulus = kernels.rings(labels, field.change, field.variance, field.usable, boxes, active, ANNULUS)
        active &= (ring[:, 0] > 0) & (annulus[:, 0] > 0)
        mean, noise = _mean(ring)
        around, around_noise = _mean(annulus)
        mean, around = mean * signs, around * signs
        deviation = np.sqrt(RING_SD**2 * noise + CORRELATED_SD**2 * sill)
        error = np.sqrt(noise + around_noise)
        active &= (mean > deviation) & (mean - around > np.sqrt((STEP_SE * error) ** 2 + drift))
        active &= mean <= previous + 2.0 * np.sqrt(noise)  # a rise is the foot of another change
        kernels.claim(labels, field.usable, boxes, active)
        previous = np.where(active, np.minimum(mean, previous), previous)


def _boxes(labels: Labels, n: int) -> NDArray[np.int32]:
    boxes = np.zeros((n, 4), np.int32)
    for k, found in enumerate(find_objects(labels, n - 1), start=1):
        if found is not None:
            boxes[k] = found[0].start, found[1].start, found[0].stop - 1, found[1].stop - 1
    return boxes


def _mean(sums: Array) -> tuple[Array, Array]:
    """Return mean change and the white variance of that mean of (count, sum, sum of variances) rows."""
    count = np.maximum(sums[:, 0], 1.0)
    return sums[:, 1] / count, sums[:, 2] / count**2


def merge_fragments(labels: Labels, signs: NDArray[np.int8], field: Field) -> Labels:
    """Join hulls of one sign whose common border is as high as the hulls: one change found in pieces."""
    n = len(signs)
    change = np.where(field.usable, field.change, 0.0)
    count = np.bincount(labels.ravel(), minlength=n)
    mean = np.abs(np.bincount(labels.ravel(), change.ravel(), n)) / np.maximum(count, 1)
    pairs, sums = kernels.borders(labels, change, 16 * n + 16)
    parent = np.arange(n, dtype=np.int32)
    for (a, b), (cells, total) in zip(pairs.tolist(), sums.tolist(), strict=True):
        height = total / cells * signs[a]
        if signs[a] == signs[b] and cells >= 4 and height > SAME_CHANGE * min(mean[a], mean[b]):
            low, high = sorted((_root(parent, a), _root(parent, b)))
            parent[high] = low
    roots = np.array([_root(parent, k) for k in range(n)], dtype=np.int32)
    return np.asarray(roots[labels], dtype=np.int32)


def _root(parent: NDArray[np.int32], k: int) -> int:
    while parent[k] != k:
        k = int(parent[k])
    return k


def claim_doubtful(labels: Labels, signs: NDArray[np.int8], field: Field) -> None:
    """Give doubtful cells next to a hull to it where its change goes on in them, in place.

    A ground filter takes points at a wall for what stands on the ground, so growth, which asks for trusted cells,
    ends short of the wall although the change does not.

    Args:
        labels: Number of the hull of each cell, 0 = none.
        signs: +1 fill or −1 cut of each number, shape (n + 1,).
        field: The measurements.
    """
    doubtful = ~field.usable & np.isfinite(field.change)
    if not doubtful.any():
        return
    for k, box in enumerate(find_objects(labels), start=1):
        if box is None:
            continue
        rows, cols = (
            slice(max(s.start - SPOILT, 0), min(s.stop + SPOILT, n)) for s, n in zip(box, labels.shape, strict=True)
        )
        wide = rows, cols
        own, trusted = labels[wide] == k, field.usable[wide]
        free = doubtful[wide] & (labels[wide] == 0)
        if not free.any():
            continue
        source = own & trusted
        near = gaussian_filter(source.astype(float), 1.5, mode="constant")
        level = gaussian_filter(np.where(source, field.change[wide], 0.0), 1.5, mode="constant") * signs[k]
        on = free & (level > 0) & (field.change[wide] * signs[k] * near > AS_HIGH * level)
        reached = binary_dilation(own, EIGHT, iterations=SPOILT, mask=own | on)
        labels[wide][reached & on] = k


def fill_gaps(labels: Labels, field: Field, guess: Array) -> Array:
    """Give enclosed cells to the hull around them, in place, and return the change with unseen ones interpolated.

    Args:
        labels: Number of the hull of each cell, 0 = none.
        field: The measurements.
        guess: Change where it can be told without having been seen, m; NaN elsewhere.

    Returns:
        Height change, m, shape (rows, cols): as measured, and inside hulls also where it was not.
    """
    filled = np.where(field.usable, field.change, guess)
    for k, box in enumerate(find_objects(labels), start=1):
        if box is None:
            continue
        part = labels[box]
        enclosed = binary_fill_holes(part == k) & (part == 0)
        part[enclosed] = k
        unknown = (part == k) & np.isnan(filled[box])
        if unknown.any():
            around = interpolated(field.change[box], (part == k) & field.usable[box])
            filled[box] = np.where(unknown, around, filled[box])
    return filled
