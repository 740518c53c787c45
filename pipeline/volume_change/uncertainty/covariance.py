"""How the errors of neighbouring cells go together, and what that makes of a sum over many cells."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2

from pipeline.volume_change.types import Array, Mask
from pipeline.volume_change.uncertainty.nonnegative import nonnegative_least_squares

TILE = 512  # cells; windows of the autocovariance, so that its cost is linear in the area
CLIP = 4.0  # robust deviations beyond which a cell is an outlier, not a sample of the noise
BLUNDER = 10.0  # and beyond which it is none at all, but a thing that stood there
SOFTENING = 10.0  # median variances of a cell that halve its weight: a vehicle's rim must not pass for the ground
FEWEST_PAIRS = 30.0
SIGNIFICANT = 2.0  # sds of what white noise feigns, below which a correlated part is left out
LARGEST_GRID = 1 << 18  # cells; larger windows are coarsened before a quadratic form


@dataclass(frozen=True, slots=True)
class Covariance:
    """Covariance of the height change's error: white noise and a sum of Gaussians of growing range.

    A sum of Gaussians with weights ≥ 0 is a valid covariance whatever the weights, and fits short and long
    ranges alike.

    Args:
        white: Factor on the cells' own variances that makes them agree with the stable ground.
        sills: Variance of each correlated part, m², shape (k,).
        ranges: Scale ℓ of each part's exp(−h² / 2ℓ²), m, shape (k,).
        area: Ground that the parts were estimated on, m².
        offset: Variance of an offset that the whole site shares, m².
    """

    white: float
    sills: Array
    ranges: Array
    area: float
    offset: float = 0.0

    @property
    def sill(self) -> float:
        """Variance of all correlated parts together, without the offset, m²."""
        return float(self.sills.sum())

    def at(self, distance: Array) -> Array:
        """Return the covariance of the correlated parts at a distance, m → m²."""
        result = np.full(np.shape(distance), self.offset)
        for sill, scale in zip(self.sills, self.ranges, strict=True):
            result += sill * np.exp(-0.5 * (distance / scale) ** 2)
        return result

    def smoothed(self, sigma: float) -> float:
        """Return the variance of the correlated parts after a Gaussian filter of ``sigma`` m, m²."""
        left = self.ranges**2 / (self.ranges**2 + 2 * sigma**2)
        return float((self.sills * left).sum()) + self.offset

    def length(self) -> float:
        """Return the distance at which the covariance has fallen to 5 % of its sill, m; 0 without one."""
        if not self.sills.any():
            return 0.0
        distances = np.linspace(0.0, 3.0 * float(self.ranges[self.sills > 0].max()), 600)
        return float(distances[np.argmax(self.at(distances) - self.offset <= 0.05 * self.sill)])

    def freedom(self) -> float:
        """Return ν, how many independent patches of the longest notable range the sample held."""
        notable = self.sills > 0.05 * max(self.sill, 1e-300)
        if not notable.any():
            return 1e6
        return max(1.0, self.area / (np.pi * 2.0 * float(self.ranges[notable].max()) ** 2))


def estimate(change: Array, variance: Array, sample: Mask, cell: float) -> Covariance:
    """Fit the covariance to the cells of ``sample``, about zero rather than about their mean.

    An offset left by the registration thus counts as error.

    Args:
        change: Height change, m, shape (rows, cols).
        variance: Its variance from point noise alone, m².
        sample: Cells that did not change and that both surveys saw.
        cell: Edge of a cell, m.
    """
    values = change[sample]
    spread = float(np.sqrt(np.median(values**2)) * 1.4826)
    limit = CLIP * np.sqrt(np.maximum(spread**2, variance))
    sample = sample & (np.abs(np.nan_to_num(change)) <= limit * BLUNDER / CLIP)
    clean = np.where(sample, np.clip(np.nan_to_num(change), -limit, limit), 0.0)
    usual = SOFTENING * max(float(np.median(variance[sample])), 1e-300)
    weights = np.where(sample, 1.0 / (1.0 + np.where(sample, variance, 0.0) / usual), 0.0)
    lags, covariances, pairs = autocovariance(clean, weights, cell)
    total = float(np.average(clean[sample] ** 2, weights=weights[sample] ** 2))
    scales = _ladder(cell, float(lags[-1]) if len(lags) else cell)
    sills = np.zeros(len(scales))
    if len(lags) >= 3:
        shapes = np.column_stack([np.exp(-0.5 * (lags / s) ** 2) for s in scales])
        # Distant lags share few independent patches however many pairs they count: the weight levels off.
        weight = np.sqrt(np.minimum(pairs / pairs.max(), 0.25))
        norm = max(total, 1e-300)
        sills = nonnegative_least_squares(shapes * weight[:, None], covariances / norm * weight) * norm
        sills *= min(1.0, total / max(sills.sum(), 1e-300))
        sills[sills < SIGNIFICANT * _chance(total, int(sample.sum()), cell, scales)] = 0.0
    factor = _white_factor(clean[sample], variance[sample], weights[sample], float(sills.sum()))
    count = int(np.count_nonzero(sample))
    covariance = Covariance(float(np.clip(factor, 0.3, 25.0)), sills, scales, count * cell * cell)
    # Whatever offset was removed was itself measured on such ground, and no better than its mean is known.
    mean = covariance_of(sample.astype(float), variance, covariance, cell) / count**2
    return replace(covariance, offset=max(mean, 0.0))


def _white_factor(values: Array, variance: Array, weights: Array, sill: float) -> float:
    """Return what the cells' own variances must be multiplied with to explain the values.

    Once for the sum and once cell by cell: where rough cells overstate their variance, a sum comes out
    right while every smooth cell is thought better than it is.
    """
    squares, own = (float(np.average(each, weights=weights**2)) for each in (values**2, variance))
    in_sum = (squares - sill) / own
    by_cell = float((values**2 / variance).mean()) - sill * float((1.0 / variance).mean())
    return max(in_sum, by_cell)


def _chance(total: float, count: int, cell: float, scales: Array) -> Array:
    """Return the sill that white noise feigns at each range, m²: one sd of the variance of its patch means."""
    patches = np.maximum(count * cell**2 / (2 * np.pi * scales**2), 1.0)
    return np.asarray(total / count * np.sqrt(2 * patches))


def _ladder(cell: float, reach: float) -> Array:
    """Ranges to choose from, m: from below a cell's edge to as far as lags were seen, each 1.6 times the last."""
    steps = max(1, int(np.log(max(reach, 2 * cell) / cell) / np.log(1.6)))
    return np.asarray(cell * 1.6 ** np.arange(steps + 1))


def autocovariance(values: Array, weights: Array, cell: float) -> tuple[Array, Array, Array]:
    """Return lags (m), mean products (m²) and pairs per ring of lags, longest lag half the sample's extent.

    Args:
        values: Shape (rows, cols).
        weights: How much each cell counts, 0 to 1.
        cell: Edge of a cell, m.
    """
    rows, cols = np.nonzero(weights)
    if not len(rows):
        return np.zeros(0), np.zeros(0), np.zeros(0)
    top, bottom, left, right = rows.min(), rows.max() + 1, cols.min(), cols.max() + 1
    extent = max(bottom - top, right - left)
    reach = int(min(TILE // 2, max(2, extent // 2)))
    edges = np.unique(np.round(np.geomspace(1, reach + 1, 24) * 2) / 2) - 0.25
    products, pairs = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    weighted = np.zeros(len(edges) - 1)
    for row in range(top, bottom, TILE):
        for col in range(left, right, TILE):
            block = np.s_[row : min(row + TILE, bottom), col : min(col + TILE, right)]
            if not weights[block].any():
                continue
            both = _correlate(values[block] * weights[block], weights[block].astype(float), reach)
            bins = np.digitize(both[2], edges) - 1
            inside = (bins >= 0) & (bins < len(pairs)) & (both[1] > 0.5)
            products += np.bincount(bins[inside], both[0][inside], len(pairs))
            pairs += np.bincount(bins[inside], both[1][inside], len(pairs))
            weighted += np.bincount(bins[inside], (both[1] * both[2])[inside], len(pairs))
    enough = pairs >= FEWEST_PAIRS
    return weighted[enough] / pairs[enough] * cell, products[enough] / pairs[enough], pairs[enough]


def _correlate(values: Array, weights: Array, reach: int) -> tuple[Array, Array, Array]:
    """Sums of products, numbers of pairs and distances (cells) of the lags up to ``reach``, flattened."""
    shape = tuple(next_fast_len(n + reach, real=True) for n in values.shape)
    sums = []
    for grid in (values, weights):
        spectrum = rfft2(grid, shape)
        sums.append(irfft2(spectrum * spectrum.conj(), shape))
    dy = np.arange(-min(reach, values.shape[0] - 1), min(reach, values.shape[0] - 1) + 1)
    dx = np.arange(0, min(reach, values.shape[1] - 1) + 1)  # the other half is the mirror image
    distance = np.hypot(dy[:, None], dx[None, :])
    return sums[0][np.ix_(dy, dx)].ravel(), sums[1][np.ix_(dy, dx)].ravel(), distance.ravel()


def cross(weights: Sequence[Array], covariance: Covariance, cell: float) -> NDArray[np.float64]:
    """Return wᵢᵀ C wⱼ of the correlated parts for a few weight grids of one shape, m², shape (k, k)."""
    grids = [np.asarray(w, dtype=float) for w in weights]
    while grids[0].size > LARGEST_GRID:
        grids, cell = [_halve(g) for g in grids], 2 * cell
    result = np.zeros((len(grids), len(grids)))
    sums = np.array([g.sum() for g in grids])
    result += covariance.offset * np.outer(sums, sums)
    if not covariance.sills.any():
        return result
    rows, cols = grids[0].shape
    shape = (next_fast_len(2 * rows, real=True), next_fast_len(2 * cols, real=True))
    dy, dx = (np.minimum(np.arange(n), n - np.arange(n)) * cell for n in shape)
    kernel = np.zeros(shape)
    for sill, scale in zip(covariance.sills, covariance.ranges, strict=True):
        if sill > 0:
            kernel += sill * np.outer(np.exp(-0.5 * (dy / scale) ** 2), np.exp(-0.5 * (dx / scale) ** 2))
    response = rfft2(kernel)
    for j, grid in enumerate(grids):
        spread = irfft2(rfft2(grid, shape) * response, shape)[:rows, :cols]
        result[: j + 1, j] += [float((g * spread).sum()) for g in grids[: j + 1]]
        result[j, :j] = result[:j, j]
    return result


def _halve(grid: Array) -> Array:
    """Sum blocks of 2 × 2 cells."""
    rows, cols = grid.shape
    padded = np.zeros((rows + rows % 2, cols + cols % 2))
    padded[:rows, :cols] = grid
    return np.asarray(padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2).sum(axis=(1, 3)))


def covariance_of(weights: Array, variance: Array, covariance: Covariance, cell: float) -> float:
    """Return the variance of Σ w d, white and correlated parts together, m²; w is 0 where d is unknown."""
    white = covariance.white * float((weights**2 * np.nan_to_num(variance)).sum())
    return white + float(cross([weights], covariance, cell)[0, 0])
