"""Where did the ground change? Connected cells that stand out of the noise at two scales."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, find_objects, gaussian_filter, label
from scipy.special import ndtri

from pipeline.abreast import both
from pipeline.volume_change.delineation.growth import Field, Labels, claim_doubtful, fill_gaps, grow, merge_fragments
from pipeline.volume_change.types import EIGHT, Array, Mask

SCALES = (1.0, 5.0)  # cells, sd of the smoothing
FALSE_ALARMS = 0.01  # expected per scene and scale without any change
CORE = 2.5  # z of a cell that belongs to a change whose peak is above the threshold
EDGE = 0.35  # of the highest z within two cells: smoothing carries a sharp edge no further than half a cell
AROUND = 2  # cells, for EDGE
SOFTENING = 10.0  # median variances added to a cell's own before it weighs
TAIL_RANK = 0.998


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes found, numbered from 1.

    Args:
        labels: Number of the change of each cell, 0 = none, shape (rows, cols).
        signs: +1 fill or −1 cut, shape (n + 1,); entry 0 is unused.
        peaks: Highest z over its threshold, ≥ 1, shape (n + 1,).
        change: Height change, m: measured, and interpolated where a hull encloses unseen cells.
    """

    labels: Labels
    signs: NDArray[np.int8]
    peaks: Array
    change: Array


def euler_threshold(cells: float, sigma: float, alarms: float = FALSE_ALARMS) -> float:
    """Return the z that noise smoothed by ``sigma`` cells exceeds somewhere with probability ``alarms``.

    Solves 2 R (4 ln 2) (2π)^(−3/2) z e^(−z²/2) = alarms with R = cells / FWHM², the expected Euler
    characteristic of a two-sided excursion set of a Gaussian field.

    Source: Worsley et al. (1992), doi:10.1038/jcbfm.1992.127.

    >>> round(euler_threshold(100_000, 1.0), 2)
    5.49
    """
    resels = max(cells / (8 * np.log(2) * sigma**2), 1.0)
    z = np.linspace(1.0, 9.0, 8001)
    expected = 2 * resels * 4 * np.log(2) * (2 * np.pi) ** -1.5 * z * np.exp(-0.5 * z * z)
    return float(z[np.argmax(expected <= alarms)])


def significance(field: Field, usable: Mask, sigma: float) -> Array:
    """Return z of the weighted, Gaussian smoothed change, shape (rows, cols); 0 where not usable.

    Args:
        field: The measurements.
        usable: Cells to use: those of the field that no hull has taken yet.
        sigma: Of the smoothing, cells.
    """
    white = np.where(usable, field.covariance.white * field.variance, 0.0)
    if not usable.any():
        return np.zeros(white.shape)
    # Softened: the cells of a small steep pit vary most, and would drown in the quiet ground around it.
    weight = np.where(usable, 1.0 / (white + SOFTENING * float(np.median(white[usable]))), 0.0)
    np.multiply(weight**2, white, out=white)
    total, mean = both(_smoothed, (weight, sigma, 3.0), (weight * np.where(usable, field.change, 0.0), sigma, 3.0))
    del weight
    squares = _smoothed(white, sigma / np.sqrt(2), 3.0 * np.sqrt(2))
    seen = usable & (total > 0)
    total[~seen] = squares[~seen] = 1.0
    mean /= total
    # the standard error, in the place of the squares
    squares /= 4 * np.pi * sigma**2 * total**2
    squares += field.covariance.smoothed(sigma * field.cell)
    mean /= np.sqrt(squares, out=squares)
    mean[~seen] = 0.0
    return mean


def _smoothed(values: Array, sigma: float, truncate: float) -> Array:
    return np.asarray(gaussian_filter(values, sigma, mode="constant", truncate=truncate))


def tail_factor(z: Array, stable: Mask) -> float:
    """Return how much heavier the tail on stable ground is than a Gaussian's, between 1 and 1.6."""
    sample = np.abs(z[stable])
    rank = min(TAIL_RANK, 1.0 - 5.0 / max(len(sample), 10))
    return float(np.clip(np.quantile(sample, rank) / ndtri(0.5 + rank / 2), 1.0, 1.6)) if len(sample) else 1.0


def find_changes(field: Field, stable: Mask, guess: Array) -> Changes:
    """Find the changes: at the fine scale, then what remains at the coarse one.

    Args:
        field: The measurements.
        stable: Stable cells that both surveys saw.
        guess: Change across narrow gaps, m, shape (rows, cols); NaN where nobody can tell.
    """
    labels = np.zeros(field.change.shape, dtype=np.int32)
    signs, peaks = [0], [0.0]
    for sigma in SCALES:
        # A hull's foot reaches a little further than its last significant ring.
        taken = binary_dilation(labels > 0, EIGHT, iterations=2) if sigma > 1 and labels.any() else labels > 0
        usable = field.usable & ~taken
        z = significance(field, usable, sigma)
        threshold = euler_threshold(float(usable.sum()), sigma) * tail_factor(z, stable & usable)
        first = len(signs)
        for sign in (1, -1):
            _add_cores(labels, sign * z, threshold, signs, peaks, sign)
        if len(signs) > first:
            grow(labels, np.array(signs, np.int8), field, first)
    return _finished(labels, np.array(signs, np.int8), np.array(peaks), field, guess)


def _add_cores(labels: Labels, z: Array, threshold: float, signs: list[int], peaks: list[float], sign: int) -> None:
    """Label the connected regions of z whose peak passes the threshold, in place."""
    rows, cols = np.nonzero((z > CORE) & (labels == 0))
    kept = z[rows, cols] > EDGE * _highest_around(z, rows, cols)
    rows, cols = rows[kept], cols[kept]
    core = np.zeros(z.shape, dtype=bool)
    core[rows, cols] = True
    parts, n = label(core, EIGHT)
    highest = np.full(n, -np.inf)
    np.maximum.at(highest, parts[rows, cols] - 1, z[rows, cols])
    strong = np.flatnonzero(highest > threshold)
    numbers = np.zeros(n + 1, np.int32)
    numbers[strong + 1] = len(signs) + np.arange(len(strong))
    labels[rows, cols] += numbers[parts[rows, cols]]
    signs.extend([sign] * len(strong))
    peaks.extend((highest[strong] / threshold).tolist())


def _highest_around(z: Array, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> Array:
    """Return the highest z within two cells of each of a few cells."""
    reach = range(-AROUND, AROUND + 1)
    down, right = (
        [np.clip(at + step, 0, size - 1) for step in reach] for at, size in ((rows, len(z)), (cols, z.shape[1]))
    )
    return np.asarray(np.max([z[row, col] for row in down for col in right], axis=0))


def _finished(labels: Labels, signs: NDArray[np.int8], peaks: Array, field: Field, guess: Array) -> Changes:
    """Join fragments, fill gaps and number what is left without holes in the numbering."""
    labels = merge_fragments(labels, signs, field)
    claim_doubtful(labels, signs, field)
    change = fill_gaps(labels, field, guess)
    kept = [k for k, box in enumerate(find_objects(labels), start=1) if box is not None]
    roots = {k: i for i, k in enumerate(kept, start=1)}
    numbers = np.zeros(len(signs), np.int32)
    numbers[kept] = list(roots.values())
    best = np.zeros(len(kept) + 1)
    best[1:] = peaks[kept]
    return Changes(numbers[labels], np.append(np.int8(0), signs[kept]).astype(np.int8), best, change)
