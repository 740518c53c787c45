"""Which share of each cell did both surveys see? Cells at the outer border are seen in part only."""

import numpy as np
from scipy.ndimage import binary_closing, binary_dilation

from pipeline.volume_change.types import EIGHT, Array, Mask

AROUND = 5  # cells to each side, whose counts tell what a whole cell would hold
MOST = 2.0  # a share above one makes up for one that chance made too small; but not without bound


def seen_shares(before: Array, after: Array) -> tuple[Array, Array]:
    """Return the share of each cell that both surveys saw, and its variance, both of shape (rows, cols).

    A cell at the border holds as many points, over those of whole cells nearby, as the share of it that was
    surveyed: right on average, so that sums along the border are right though single shares are not. Cells
    around narrow gaps count whole, as those do when they are filled.

    Args:
        before: Ground points of the reference in each cell.
        after: Of the later survey.
    """
    (one, one_error), (other, other_error) = _shares(before), _shares(after)
    both = (one_error > 0) & (other_error > 0)
    # Where both surveys end they mostly end alike, and two counts tell more than one; else the smaller rules.
    alike = np.abs(one - other) <= 2.0 * np.sqrt(one_error + other_error)
    together = np.where(both & alike, (one + other) / 2.0, np.where(both, np.minimum(one, other), one * other))
    error = np.where(both & alike, (one_error + other_error) / 4.0, one_error + other_error)
    return together, error


def _shares(count: Array) -> tuple[Array, Array]:
    """Return one survey's share of each cell and its variance: 1 and 0 away from its outer border."""
    seen = count > 0
    border = _outer_border(seen)
    share, variance = np.ones(count.shape), np.zeros(count.shape)
    rows, cols = np.nonzero(border)
    if not len(rows):
        return share, variance
    whole = np.where(seen & ~border, count, np.nan)
    padded = np.pad(whole, AROUND, constant_values=np.nan)
    steps = range(2 * AROUND + 1)
    around = np.stack([padded[rows + i, cols + j] for i in steps for j in steps])
    near = np.isfinite(around).sum(axis=0)
    typical = float(np.nanmean(whole)) if np.isfinite(whole).any() else float(count[seen].mean())
    expected = np.where(near > 0, np.nansum(around, axis=0) / np.maximum(near, 1), typical)
    found = np.minimum(count[rows, cols] / expected, MOST)
    share[rows, cols] = found
    # A count's variance is its mean. What is expected errs, too, and alike for cells a window's width along the border.
    common = (2 * AROUND + 1) / np.maximum(near, 1)
    variance[rows, cols] = (np.clip(found, 1.0 / expected, 1.0) + common * found**2) / expected
    return share, variance


def closed(seen: Mask) -> Mask:
    """Return the cells that were seen, and gaps and bays up to two cells wide between them."""
    return np.asarray(seen | binary_closing(np.pad(seen, 2), EIGHT)[2:-2, 2:-2])


def _outer_border(seen: Mask) -> Mask:
    """Return the seen cells next to what was not seen; nothing was beyond the raster's edge."""
    outside = np.pad(~closed(seen), 1, constant_values=True)
    return np.asarray(binary_dilation(outside, EIGHT)[1:-1, 1:-1] & seen)
