"""Coarse registration and its witnesses, on small elevation grids."""

from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter, maximum_filter

from pipeline.clouds import Cloud
from pipeline.geometry import raster_kernels
from pipeline.geometry.extent import grid_over, trimmed_extent
from pipeline.geometry.rigid import apply, lift, motion
from pipeline.volume_change.align.samples import THINNABLE, Thinned
from pipeline.volume_change.types import Array, Mask

WITNESS_CELLS = 96  # along the longer side
WITNESS_BLUR = 3.0  # cells: longer waves than these say nothing about where a survey lies
SEARCH_CELLS = 72
SEARCH_BLUR = 6.0
YAW_STEP = 4.0  # degrees
LEAST_SHARED = 0.35  # of the smaller grid, for a shift to be looked at
CANDIDATES = 3
SELF_ALIKE = 0.5  # correlation of a relief with itself, shifted, from which it may be taken for itself
REPEATS = 4  # of them to look at
APART = 10.0  # degrees between candidates
_MOST_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A motion that may be right.

    Args:
        matrix: Later → reference, 4 × 4.
        score: Normalised cross-correlation, weighted by the shared area; at most 1.
    """

    matrix: Array
    score: float


def overlap(pre: Thinned, post: Thinned, matrix: Array) -> float:
    """Return the share of the smaller survey's footprint that both saw, 0 to 1.

    Args:
        pre: The thinned reference.
        post: The thinned later survey.
        matrix: Motion later → reference, 4 × 4.
    """
    moved = apply(matrix, post.points)
    cell = 2 * max(pre.cell, post.cell)
    grid = grid_over(np.vstack([pre.points, moved]), cell, _MOST_CELLS)
    held = [raster_kernels.cell_sums(points, np.eye(4), *grid)[0] > 0 for points in (pre.points, moved)]
    return float((held[0] & held[1]).sum() / max(1, min(held[0].sum(), held[1].sum())))


def high_pass_correlation(pre: Cloud, post: Cloud, matrix: Array, spacing: float) -> float:
    """Correlate the short waves of both surveys' relief: high only if one lies on the other.

    Unlike residuals it survives real change, and unlike plain correlation it is not fooled by a common slope.

    Args:
        pre: The reference.
        post: The later survey.
        matrix: Motion later → reference, 4 × 4.
        spacing: The larger mean spacing of the pair, metres.

    Returns:
        −1 to 1; 0 where there is nothing to compare.
    """
    low, high = trimmed_extent(pre.outline())
    cell = max(float((high - low).max()) / WITNESS_CELLS, 2 * spacing)
    cols, rows = (int(e // cell) + 1 for e in high - low)
    grids = []
    for cloud, by in ((pre, np.eye(4)), (post, matrix)):
        sample = cloud.sample(THINNABLE)
        sums = raster_kernels.cell_sums(sample, by, float(low[0]), float(low[1]), cell, rows, cols)
        grids.append(_means(sums))
    common = np.isfinite(grids[0]) & np.isfinite(grids[1])
    if common.sum() < 16:
        return 0.0
    a, b = (_high_passed(grid, common, WITNESS_BLUR)[common] for grid in grids)
    a, b = a - a.mean(), b - b.mean()
    power = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / power if power > 0 else 0.0


def search(pre: Thinned, post: Thinned) -> list[Candidate]:
    """Look for the later survey's place under every yaw and shift, by its relief.

    Args:
        pre: The thinned reference.
        post: The thinned later survey.

    Returns:
        The best candidates, best first; they differ in yaw by at least ``APART`` degrees.

    Source:
        Masked normalised cross-correlation by FFT: Padfield (2012), doi:10.1109/TIP.2011.2181402.
    """
    extent = max(float((high - low).max()) for low, high in map(trimmed_extent, (pre.points, post.points)))
    cell = max(extent / SEARCH_CELLS, pre.cell)
    reference, x0, y0 = _relief(pre.points, cell)
    # A turned square is √2 wider; the grid must hold both side by side, or shifts wrap around.
    size = fft.next_fast_len(int(np.ceil(max(reference.shape) + SEARCH_CELLS * 1.5 + 4)), real=True)
    spectra = _spectra(reference, (size, size))
    centre = post.points.mean(axis=0)
    found = []
    for yaw in np.arange(0, 360, YAW_STEP):
        turn = motion(np.array([0, 0, 0, 0, 0, np.radians(yaw)]), centre)
        relief, u0, v0 = _relief(apply(turn, post.points), cell)
        score, row, col = _best_shift(spectra, _spectra(relief, (size, size)))
        # Beyond the reference's far edge the shifts are negative ones, wrapped around.
        row, col = (k - size if k >= n else k for k, n in zip((row, col), reference.shape, strict=True))
        shift = np.array([x0 - u0 + col * cell, y0 - v0 + row * cell, 0, 0, 0, 0])
        found.append((score, float(yaw), motion(shift, np.zeros(3)) @ turn))
    found.sort(key=lambda f: -f[0])
    best: list[tuple[float, float, Array]] = []
    for candidate in found:
        if all(abs((candidate[1] - other[1] + 180) % 360 - 180) >= APART for other in best):
            best.append(candidate)
    return [Candidate(_levelled(pre, post, matrix), score) for score, _, matrix in best[:CANDIDATES]]


def repeats(pre: Thinned, post: Thinned, matrix: Array) -> list[Array]:
    """Return motions by which the later survey would lie as well if the reference repeats itself, best first.

    They are shifts by the lags at which the reference's relief correlates with itself; most sites have none.

    Args:
        pre: The thinned reference.
        post: The thinned later survey.
        matrix: A motion later → reference under which it lies well, 4 × 4.
    """
    low, high = trimmed_extent(pre.points)
    cell = max(float((high - low).max()) / SEARCH_CELLS, pre.cell)
    relief, _, _ = _relief(pre.points, cell)
    size = fft.next_fast_len(2 * max(relief.shape), real=True)
    spectra = _spectra(relief, (size, size))
    score = _scores(spectra, spectra)
    around = 2 * int(SEARCH_BLUR) + 1
    rows, cols = np.nonzero((score == maximum_filter(score, around, mode="wrap")) & (score >= SELF_ALIKE))
    lags = (np.stack([cols, rows], axis=1) + size // 2) % size - size // 2
    order = np.argsort(-score[rows, cols], kind="stable")
    far = [lags[k] * cell for k in order if np.hypot(*lags[k]) > SEARCH_BLUR][:REPEATS]
    return [_levelled(pre, post, motion(np.array([x, y, 0, 0, 0, 0]), np.zeros(3)) @ matrix) for x, y in far]


def _levelled(pre: Thinned, post: Thinned, matrix: Array) -> Array:
    """Add the median height difference of the cells that both surveys hold."""
    low, high = trimmed_extent(pre.points)
    cell = 2 * max(pre.cell, post.cell)
    cols, rows = (int(e // cell) + 1 for e in high - low)
    a, b = (
        _means(raster_kernels.cell_sums(points, by, float(low[0]), float(low[1]), cell, rows, cols))
        for points, by in ((pre.points, np.eye(4)), (post.points, matrix))
    )
    difference = (a - b)[np.isfinite(a - b)]
    return lift(float(np.median(difference)) if len(difference) else 0.0) @ matrix


def _means(sums: Array) -> Array:
    """Mean elevation of each cell, NaN where it is empty."""
    return np.where(sums[0] > 0, sums[3] / np.maximum(sums[0], 1), np.nan)


def _high_passed(grid: Array, known: Mask, sigma: float) -> Array:
    """Take away what a Gaussian blur over the known cells leaves; unknown cells become 0."""
    weight = gaussian_filter(known.astype(float), sigma, mode="constant")
    level = gaussian_filter(np.where(known, grid, 0.0), sigma, mode="constant")
    return np.where(known, np.where(known, grid, 0.0) - level / np.maximum(weight, 1e-12), 0.0)


def _relief(points: Array, cell: float) -> tuple[Array, float, float]:
    """High-passed elevation grid, NaN where empty, and its lowest x and y."""
    low, high = trimmed_extent(points)
    cols, rows = (int(e // cell) + 1 for e in high - low)
    x0, y0 = float(low[0]), float(low[1])
    grid = _means(raster_kernels.cell_sums(points, np.eye(4), x0, y0, cell, rows, cols))
    known = np.isfinite(grid)
    return np.where(known, _high_passed(grid, known, SEARCH_BLUR), np.nan), x0, y0


def _spectra(relief: Array, shape: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Transforms of the mask, the relief and its square."""
    known = np.isfinite(relief)
    z = np.where(known, relief, 0.0)
    mask, first, second = (fft.rfft2(a, shape) for a in (known.astype(float), z, z * z))
    return mask, first, second


def _best_shift(a: tuple[Array, Array, Array], b: tuple[Array, Array, Array]) -> tuple[float, int, int]:
    """Score, and rows and columns (modulo the grid) by which ``b`` must move to lie best on ``a``."""
    score = _scores(a, b)
    row, col = np.unravel_index(int(score.argmax()), score.shape)
    return float(score[row, col]), int(row), int(col)


def _scores(a: tuple[Array, Array, Array], b: tuple[Array, Array, Array]) -> Array:
    """Correlation, weighted by the shared area, for each shift of ``b`` by rows and columns (modulo the grid)."""
    size = len(a[0])

    def cross(f: Array, g: Array) -> Array:
        return np.asarray(fft.irfft2(f * np.conj(g), (size, size)))

    shared = np.round(cross(a[0], b[0]))
    n = np.maximum(shared, 1)
    sum_a, sum_b = cross(a[1], b[0]), cross(a[0], b[1])
    power_a = cross(a[2], b[0]) - sum_a**2 / n
    power_b = cross(a[0], b[2]) - sum_b**2 / n
    covariance = cross(a[1], b[1]) - sum_a * sum_b / n
    whole = min(float(a[0][0, 0].real), float(b[0][0, 0].real))
    floor = 1e-6 * max(float(power_a.max()), float(power_b.max()), 1e-30)
    score = covariance / np.sqrt(np.maximum(power_a, floor) * np.maximum(power_b, floor))
    score *= np.sqrt(np.minimum(shared / whole, 1))
    score[shared < LEAST_SHARED * whole] = -1
    return np.asarray(score)
