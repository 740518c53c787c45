"""Which weights, none of them negative, fit a column of numbers best?"""

import numpy as np

from pipeline.volume_change.types import Array, Mask

_ROUNDING = 10.0  # units of rounding of the largest product, below which a gradient counts as 0


def nonnegative_least_squares(columns: Array, values: Array) -> Array:
    """Return the weights w ≥ 0 that minimise |columns · w − values|.

    SciPy has the same, in a package that takes longer to load than a small survey to measure.

    Args:
        columns: Shape (m, k).
        values: Shape (m,).

    Source:
        The active set method, Lawson & Hanson, Solving Least Squares Problems (1974), chapter 23.

    >>> nonnegative_least_squares(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([2.0, -1.0])).tolist()
    [2.0, 0.0]
    """
    count = columns.shape[1]
    weights, free = np.zeros(count), np.zeros(count, dtype=bool)
    nothing = _ROUNDING * max(columns.shape) * np.finfo(float).eps * float(np.abs(columns).sum(axis=0).max(initial=0.0))
    nothing *= float(np.abs(values).max(initial=0.0))
    for _ in range(3 * count):
        gradient = columns.T @ (values - columns @ weights)
        gradient[free] = -np.inf
        if free.all() or gradient.max() <= nothing:
            break
        free[int(gradient.argmax())] = True
        weights, free = _feasible(columns, values, weights, free)
    return weights


def _feasible(columns: Array, values: Array, weights: Array, free: Mask) -> tuple[Array, Mask]:
    """Go towards the best fit by the free columns, fixing at 0 each whose weight would turn negative on the way."""
    while True:
        best = np.zeros(len(weights))
        best[free] = np.linalg.lstsq(columns[:, free], values, rcond=None)[0]
        falling = free & (best <= 0.0)
        if not falling.any():
            return best, free
        share = weights[falling] / (weights[falling] - best[falling])
        weights = weights + float(share.min()) * (best - weights)
        stopped = np.flatnonzero(falling)[share <= share.min()]
        free = free.copy()
        free[stopped] = False
        weights[~free] = 0.0
