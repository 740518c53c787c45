"""Compiled sums of least squares; called through the stages that fit motions."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@njit(cache=True, nogil=True)
def normal_equations(A: Floats, weights: Floats, r: Floats) -> tuple[Floats, Floats]:
    """Return AᵀWA and AᵀWr; in one pass and one thread, so the sums never depend on the machine's load."""
    n, k = A.shape
    H = np.zeros((k, k))
    g = np.zeros(k)
    for i in range(n):
        w = weights[i]
        if w == 0.0:
            continue
        for a in range(k):
            wa = w * A[i, a]
            g[a] += wa * r[i]
            for b in range(a, k):
                H[a, b] += wa * A[i, b]
    for a in range(k):
        for b in range(a):
            H[a, b] = H[b, a]
    return H, g
