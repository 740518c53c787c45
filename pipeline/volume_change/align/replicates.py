"""Whether parts of the site, each fitted for itself, show the same horizontal motion."""

import numpy as np

from pipeline.geometry.rigid import apply, inverse
from pipeline.volume_change.align import fine
from pipeline.volume_change.align.freedoms import BLOCK_RADII, blocks
from pipeline.volume_change.align.samples import Anchors, Later
from pipeline.volume_change.types import Array

REPLICATES = 8
HORIZONTAL = 3  # x, y and yaw
CRITICAL = 12.06  # 99 % of Fisher's F with 3 and 8 − 3 degrees of freedom


def shows_shift(anchors: Anchors, later: Later, matrix: Array, seed: int = 0) -> bool:
    """Whether the ground supports a horizontal motion beyond ``matrix``, noise with a long reach considered.

    The blocks of the site are dealt to ``REPLICATES`` parts. On level ground a fit brings chance waves of two surveys
    on top of each other, in each part elsewhere; a true motion is the same in all parts.

    Args:
        anchors: Where the surveys should agree.
        later: The later survey.
        matrix: Motion that fits in height and tilt, later → reference, 4 × 4.
        seed: Deals the blocks.

    Source:
        Random groups (Wolter 2007, doi:10.1007/978-0-387-35099-8) and Hotelling's T².
    """
    block = blocks(anchors.points, BLOCK_RADII * anchors.radius)
    count = int(block.max()) + 1 if len(block) else 0
    part = (np.random.default_rng(seed).permutation(count) % REPLICATES)[block]
    centre = anchors.points.mean(axis=0, keepdims=True)
    size = max(float(np.sqrt(anchors.points[:, :2].var(axis=0).sum())), anchors.radius)
    back = inverse(matrix)
    found = []
    for k in range(REPLICATES):
        fitted, _ = fine.refine(anchors.select(part == k), later, matrix)
        beyond = fitted @ back
        shift = apply(beyond, centre)[0] - centre[0]
        found.append([shift[0], shift[1], (beyond[1, 0] - beyond[0, 1]) / 2 * size])
    return hotelling(np.array(found)) > CRITICAL


def hotelling(found: Array) -> float:
    """Return F of Hotelling's test that the mean of independent vectors, shape (n, p), is zero.

    >>> round(hotelling(np.array([[1.0], [2.0], [3.0]])), 6)  # the square of Student's t: 2 / (1 / √3)
    12.0
    """
    n, p = found.shape
    covariance = np.atleast_2d(np.cov(found.T)) / n + np.eye(p) * 1e-18
    mean = found.mean(axis=0)
    return float(mean @ np.linalg.solve(covariance, mean) * (n - p) / (p * (n - 1)))
