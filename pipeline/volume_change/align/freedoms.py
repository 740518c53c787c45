"""How many degrees of freedom the stable ground supports, by blocked cross-validation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.rigid import jacobian
from pipeline.volume_change.align.fine import TUKEY, robust_step, spread
from pipeline.volume_change.types import Array

NOTHING: tuple[int, ...] = ()
HEIGHT = (2,)
TILT = (2, 3, 4)
ALL = (0, 1, 2, 3, 4, 5)

BLOCKS = 10  # along each side
BLOCK_RADII = 4.0  # smaller blocks would share points with their neighbours
FOLDS = 8
GAIN = 0.05  # of the held-out loss, at least
GAIN_ERRORS = 2.0  # standard errors
TILT_PATCHES, ALL_PATCHES = 30, 60  # independent patches needed
TILT_SPREAD = 0.25  # of the site's extent
LEAST_EIGENVALUE = 2e-4  # of the normal matrix, for the horizontal shift to be seen


@dataclass(frozen=True, slots=True)
class Evidence:
    """The distances that decide, where they are, and how independent they are.

    Args:
        points: Anchors, metres, shape (m, 3).
        normals: Unit normals, shape (m, 3).
        offset: Height by which the later survey lies too high, metres.
        along: What the distances along the normals are once that is taken off, metres, shape (m,), finite.
        scale: Standard error of each, metres, shape (m,).
        radius: Of the anchors' cylinders, metres.
        patches: Number of independent patches: area / area of a plane fit.
        spread: Extent of the anchors over that of the site, along the less favourable axis.
    """

    points: Array
    normals: Array
    offset: float
    along: Array
    scale: Array
    radius: float
    patches: float
    spread: float


def choose_freedoms(evidence: Evidence, seed: int) -> tuple[int, ...]:
    """Return the largest set of freedoms that predicts ground it has not seen better than the smaller sets.

    A set is tried only if the ground could show it: tilt needs patches spread over the site, a horizontal
    shift needs slopes in several directions.

    Args:
        evidence: What the deciding anchors say.
        seed: Deals the blocks to the folds.

    Source:
        Blocked cross-validation: Roberts et al. (2017), doi:10.1111/ecog.02881.
    """
    size = max(float(np.sqrt(evidence.points[:, :2].var(axis=0).sum())), evidence.radius)
    J = jacobian(evidence.points, evidence.normals, evidence.points.mean(axis=0), size)
    dealt = blocks(evidence.points, BLOCK_RADII * evidence.radius)
    best, best_loss = NOTHING, _held_out(J, evidence, dealt, NOTHING, seed)
    for wanted in _observable(J, evidence):
        loss = _held_out(J, evidence, dealt, wanted, seed)
        gain = best_loss - loss
        error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else np.inf
        if gain.mean() > GAIN * best_loss.mean() and gain.mean() > GAIN_ERRORS * error:
            best, best_loss = wanted, loss
    return best


def _observable(J: Array, evidence: Evidence) -> list[tuple[int, ...]]:
    sets: list[tuple[int, ...]] = [HEIGHT]
    if evidence.patches >= TILT_PATCHES and evidence.spread > TILT_SPREAD:
        sets.append(TILT)
        least = float(np.linalg.eigvalsh(J.T @ J / len(J))[0])
        if evidence.patches >= ALL_PATCHES and least > LEAST_EIGENVALUE:
            sets.append(ALL)
    return sets


def blocks(points: Array, smallest: float) -> NDArray[np.int64]:
    """Return the number of the square block that holds each anchor, counted from 0 without gaps."""
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    edge = max(float((high - low).max()) / BLOCKS, smallest)
    column = ((points[:, :2] - low) // edge).astype(np.int64)
    return np.asarray(np.unique(column @ np.array([1, 1 << 20]), return_inverse=True)[1], dtype=np.int64)


def _held_out(J: Array, evidence: Evidence, blocks: NDArray[np.int64], free: tuple[int, ...], seed: int) -> Array:
    """Mean Tukey loss of each block under the fit to the other folds' blocks, shape (blocks,)."""
    count = int(blocks.max()) + 1
    fold = (np.random.default_rng(seed).permutation(count) % min(FOLDS, count))[blocks]
    # Taken off beforehand, since the ridge of the fit would leave a ten-thousandth of it.
    left = evidence.along + (0.0 if free else evidence.offset * evidence.normals[:, 2])
    for k in range(int(fold.max()) + 1):
        held, rest = fold == k, fold != k
        if free and rest.sum() > 2 * len(free):
            step, _ = robust_step(J[rest], evidence.along[rest], evidence.scale[rest], free)
            left[held] += J[held] @ step
    # On slopes a height shows in part: what varies of a large one is no noise.
    level, _ = robust_step(J, evidence.along, evidence.scale, HEIGHT)
    sigma = spread(evidence.along + J @ level)
    u = np.minimum(np.abs(left) / (TUKEY * sigma), 1.0)
    loss = 1 - (1 - u * u) ** 3
    return np.asarray(np.bincount(blocks, loss, count) / np.bincount(blocks, minlength=count))
