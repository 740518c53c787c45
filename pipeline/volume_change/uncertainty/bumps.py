"""How high are the bumps of ground that did not change, at the size of each hull?"""

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import binary_dilation, find_objects, maximum_filter, uniform_filter

from pipeline.volume_change.delineation.changes import Changes
from pipeline.volume_change.delineation.growth import Field
from pipeline.volume_change.types import EIGHT, Array, Mask
from pipeline.volume_change.uncertainty.stable import NMAD

DOUBTFUL = 2.5  # peak over its threshold below which a hull may be a bump of the error, and counts as one for others
CLIP = 6.0  # robust deviations beyond which a cell is an outlier
COVERED = 0.5  # share of a window that must be quiet
RUNG = 1.4  # from one size of windows to the next
FEWEST = 30  # windows

Box = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Bumps:
    """Each hull beside what the rest of the site shows at its size; arrays of shape (n + 1,), entry 0 unused.

    Args:
        excess: How much higher other ground is, on average over windows as large as the hull (root mean square),
            than the covariance of the stable ground lets expect it.
        share: Of the ground that both surveys saw, in the hull.
    """

    excess: Array
    share: Array


def bumps(changes: Changes, field: Field, gap: int) -> Bumps:
    """Compare each hull with windows of its size on all ground outside the sure hulls and itself.

    Stable polygons smaller than the range of an error do not show it; the whole site does. Hulls in doubt count
    as ground for each other: were they errors, leaving them out would hide what the errors are like.

    Args:
        changes: What was found.
        field: The measurements, with the covariance of the stable ground.
        gap: Cells around sure hulls that count as theirs.
    """
    sure = changes.peaks >= DOUBTFUL
    sure[0] = False
    quiet = field.usable & ~binary_dilation(sure[changes.labels], EIGHT, iterations=gap)
    site = _Site.of(field, quiet)
    excess, share = np.ones(len(sure)), np.zeros(len(sure))
    for number, box in enumerate(find_objects(changes.labels), start=1):
        inside = changes.labels[box] == number
        side = float(np.sqrt(inside.sum()))
        share[number] = side**2 / np.count_nonzero(field.usable)
        foreseen = site.foreseen(side)
        excess[number] = (site.usual(side, inside, (box[0], box[1])) or foreseen) / max(foreseen, 1e-12)
    return Bumps(excess, share)


@dataclass(frozen=True, slots=True)
class _Windows:
    """Squared means of the windows around each cell, m², 0 where too little is quiet; which are known; their sum."""

    squares: Array
    known: Mask
    total: float
    count: int


@dataclass(frozen=True, slots=True)
class _Site:
    """Means of square windows on quiet ground, by their sides.

    Args:
        measured: The measurements.
        quiet: Which cells count.
        values: Their change without outliers, m; 0 elsewhere.
        kept: Windows by their side.
    """

    measured: Field
    quiet: Mask
    values: Array
    kept: dict[int, _Windows] = field(default_factory=dict)

    @classmethod
    def of(cls, measured: Field, quiet: Mask) -> "_Site":
        change = np.where(quiet, measured.change, 0.0)
        limit = CLIP * NMAD * float(np.median(np.abs(change[quiet]))) if quiet.any() else 0.0
        return cls(measured, quiet, np.clip(change, -limit, limit))

    def foreseen(self, side: float) -> float:
        """Return the sd of a window's mean by the covariance of the field, m."""
        white = self.measured.covariance.white * float(np.median(self.measured.variance[self.measured.usable]))
        # A Gaussian that averages as many cells as the window: 4πσ² = side².
        shared = self.measured.covariance.smoothed(side * self.measured.cell / np.sqrt(4 * np.pi))
        return float(np.sqrt(white / side**2 + shared))

    def usual(self, side: float, inside: Mask, box: Box) -> float:
        """Return the root mean square of the windows that do not touch a hull, m; 0 if there are too few."""
        rung = np.floor(np.log(side) / np.log(RUNG))
        sides = [max(1, round(RUNG**k)) for k in (rung, rung + 1)]
        low, high = (self._rms(each, inside, box) for each in sides)
        if low == 0 or high == 0 or sides[0] == sides[1]:
            return low
        share = np.clip(np.log(side / sides[0]) / np.log(sides[1] / sides[0]), 0.0, 1.0)
        return float(low ** (1 - share) * high**share)

    def _rms(self, side: int, inside: Mask, box: Box) -> float:
        windows = self._windows(side)
        reach = side // 2 + 1
        rows, cols = (slice(max(s.start - reach, 0), s.stop + reach) for s in box)
        own = np.zeros(windows.known[rows, cols].shape, dtype=bool)
        own[tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(box, (rows, cols), strict=True))] = inside
        own = maximum_filter(own, 2 * reach + 1) & windows.known[rows, cols]
        count = windows.count - np.count_nonzero(own)
        left = windows.total - float(windows.squares[rows, cols][own].sum())
        return float(np.sqrt(max(left, 0.0) / count)) if count >= FEWEST else 0.0

    def _windows(self, side: int) -> "_Windows":
        if side not in self.kept:
            share = uniform_filter(self.quiet.astype(float), side, mode="constant")
            known = share > COVERED
            mean = uniform_filter(self.values, side, mode="constant") / np.where(known, share, 1.0)
            squares = np.where(known, mean, 0.0) ** 2
            self.kept[side] = _Windows(squares, known, float(squares.sum()), int(np.count_nonzero(known)))
        return self.kept[side]
