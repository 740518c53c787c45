"""What the slopes say about a horizontal shift, which level ground cannot show."""

import numpy as np

from pipeline.volume_change.align.fine import AGREEMENT_ROUGHNESS
from pipeline.volume_change.align.samples import Anchors
from pipeline.volume_change.types import Array, Mask

FEWEST_PATCHES = 6.0  # on either side of a shift: a rigid motion can put six in place whatever they hold, not twelve


def slopes(anchors: Anchors) -> Array:
    """Return how distances change per metre of shift along x and y, what all anchors share taken off, shape (m, 2).

    A slope that is common to the whole site shows a shift as a height.
    """
    horizontal = anchors.normals[:, :2]
    return np.asarray(horizontal - np.median(horizontal, axis=0)) if len(anchors) else horizontal


def precision(anchors: Anchors) -> Array:
    """Return what one over the variance of each distance would be if the later survey were without noise, 1/m²."""
    return np.asarray(1 / np.maximum(anchors.variance + (AGREEMENT_ROUGHNESS * anchors.roughness) ** 2, 1e-12))


def information(anchors: Anchors) -> Array:
    """Return how much each anchor tells of a horizontal shift, 1/m², shape (m,).

    It is the trace of the anchor's Fisher information on x and y.

    Source:
        Points chosen by what they constrain: Gelfand et al. (2003), doi:10.1109/IM.2003.1240258.
    """
    return np.asarray((slopes(anchors) ** 2).sum(axis=1) * precision(anchors))


def effective_patches(points: Array, weights: Array, edge: float) -> float:
    """How many independent square patches carry the weight, by Kish's effective sample size.

    Args:
        points: Metres, shape (m, ≥ 2).
        weights: Not negative, shape (m,).
        edge: Of a patch, metres.

    >>> effective_patches(np.array([[0.5, 0.5], [1.5, 0.5], [1.6, 0.5]]), np.array([2.0, 1.0, 1.0]), 1.0)
    2.0
    """
    if not weights.sum() > 0:
        return 0.0
    column = np.floor(points[:, :2] / edge).astype(np.int64)
    patch = np.unique(column @ np.array([1, 1 << 24]), return_inverse=True)[1]
    held = np.bincount(patch, weights)
    return float(held.sum() ** 2 / (held @ held))


def both_sides_gain(anchors: Anchors, shifts: Array, then: Mask, now: Mask, gain: float, edge: float) -> bool:
    """Whether the slopes that face a shift and those that face away both fall into place by it.

    A bank that was worn back looks like a shift, but from one side only.

    Args:
        anchors: Seen by both surveys, before and after the shift.
        shifts: How far the later survey is moved at each, metres, shape (m, 2).
        then: Anchors that agreed before, shape (m,).
        now: Anchors that agree after it.
        gain: By how much the share that agrees must rise on either side, each weighted by what it shows of the shift.
        edge: Of an independent patch, metres.
    """
    facing = np.einsum("ij,ij->i", slopes(anchors), shifts)
    weights = facing**2 * precision(anchors)
    for side in (facing > 0, facing < 0):
        held = np.where(side, weights, 0.0)
        rise = float(held @ now) - float(held @ then)
        if effective_patches(anchors.points, held, edge) < FEWEST_PATCHES or rise <= gain * held.sum():
            return False
    return True
