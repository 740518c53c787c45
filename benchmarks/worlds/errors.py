"""What a survey gets wrong: noise of single points and errors that neighbours share, each epoch by itself."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

Array = NDArray[np.float64]
WAVES = 400


@dataclass(frozen=True)
class Errors:
    """Sizes of the errors of both epochs; metres, 1 sd, before they are drawn.

    Args:
        white: Of a single point, vertical.
        horizontal: Of a single point, each way.
        correlated: Of an error that neighbours share.
        range: Distance at which its correlation has fallen to 1/e, m.
        form: Its covariance: ``gauss`` exp(−(d/range)²), or ``exponential`` exp(−d/range), which is rough.
        stripes: Of the height of each flight line.
        stripe_width: Of a flight line, m; neighbours overlap by a fifth, where points come from either.
        dome: Height of the middle above the corners, as blocks of photographs bend; the sign is drawn.
    """

    white: float = 0.03
    horizontal: float = 0.0
    correlated: float = 0.0
    range: float = 10.0
    form: Literal["gauss", "exponential"] = "gauss"
    stripes: float = 0.0
    stripe_width: float = 30.0
    dome: float = 0.0

    def shared(self, x: Array, y: Array, size: float, rng: np.random.Generator) -> Array:
        """Draw one epoch's shared error at points (x, y) within ±``size`` of the site, m."""
        total = np.zeros(len(x))
        if self.correlated:
            total += self.correlated * correlated(x, y, self.range, self.form, rng)
        if self.stripes:
            total += self.stripes * stripes(x, y, self.stripe_width, rng)
        if self.dome:
            bend = self.dome * rng.choice([-1, 1]) * rng.uniform(0.5, 1)
            cx, cy = size / 2 + rng.uniform(-0.1, 0.1, 2) * size
            total += bend * (0.5 - 2 * ((x - cx) ** 2 + (y - cy) ** 2) / size**2)
        return total


def correlated(x: Array, y: Array, reach: float, form: str, rng: np.random.Generator) -> Array:
    """A stationary field of variance 1 by random waves drawn from the covariance's spectrum.

    It is summed on a grid of ``reach`` / 12 and read off by cubic splines where the points are; an exponential
    covariance is cut off at waves as short as half the range, which would hold a twelfth of its variance.
    """
    turn = rng.uniform(0, 2 * np.pi, WAVES)
    if form == "gauss":
        k = np.sqrt(2) / reach * np.hypot(*rng.normal(0, 1, (2, WAVES)))
    else:  # density ∝ k (1 + (k reach)²)^(−3/2), inverted
        least = 1 / np.hypot(1.0, 4 * np.pi)
        k = np.sqrt(rng.uniform(least, 1, WAVES) ** -2 - 1) / reach
    phase = rng.uniform(0, 2 * np.pi, WAVES)
    step = reach / 12
    x0, y0 = x.min() - 3 * step, y.min() - 3 * step
    gx = x0 + step * np.arange(int((x.max() - x0) / step) + 5)
    gy = y0 + step * np.arange(int((y.max() - y0) / step) + 5)
    # cos(a + b) = cos a cos b − sin a sin b: two products of matrices instead of a sum over waves
    a, b = np.outer(gx, k * np.cos(turn)) + phase, np.outer(gy, k * np.sin(turn))
    grid = np.sqrt(2 / WAVES) * (np.cos(b) @ np.cos(a).T - np.sin(b) @ np.sin(a).T)
    return np.asarray(map_coordinates(grid, [(y - y0) / step, (x - x0) / step], order=3, mode="nearest"))


def stripes(x: Array, y: Array, width: float, rng: np.random.Generator) -> Array:
    """Flight lines of variance 1: an offset each and a roll of a third of it at their edges, in a random direction."""
    turn = rng.uniform(0, np.pi)
    u = (x * np.cos(turn) + y * np.sin(turn)) / width + rng.uniform(0, 1)
    line = np.floor(u + rng.uniform(-0.1, 0.1, len(u))).astype(np.int64)  # the overlap: points of either line
    line -= line.min()
    offset, roll = rng.normal(0, 1, (2, int(line.max()) + 1))
    within = u - np.floor(u) - 0.5
    return np.asarray((offset[line] + 0.67 * roll[line] * within) / np.sqrt(1 + 0.67**2 / 12))
