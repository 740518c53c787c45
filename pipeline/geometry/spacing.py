"""How far apart the points of a survey lie."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.kernels import sample_by_place

_SAMPLE = 100_000
_POINTS_PER_CELL = 16
_ROUNDS = 40


def mean_spacing(points: NDArray[np.float64]) -> float:
    """Return the typical distance between neighbours in plan: sqrt(occupied area / number of places).

    The occupied area is that of the square cells that hold a point, with cells just large enough to hold
    about 16; so holes, slanted outlines and lone far points add little. Repeated points count once.

    Args:
        points: Coordinates, metres, shape (n, 3) or (n, 2) float64.

    Returns:
        Metres, more than 0.

    Raises:
        ValueError: If all points lie at one place, or there are none.

    >>> x, y = np.meshgrid(np.arange(100) * 0.5, np.arange(80) * 0.5)
    >>> round(mean_spacing(np.column_stack([x.ravel(), y.ravel(), 0 * x.ravel()])), 1)
    0.5
    """
    points = np.ascontiguousarray(points, dtype=np.float64)
    return spacing_of_places(lambda one_in: sample_by_place(points, one_in), len(points))


def spacing_of_places(sample: Callable[[int], NDArray[np.float64]], count: int) -> float:
    """Return the mean spacing, metres, of points that are not all at hand.

    Args:
        sample: Returns the places (shape (m, 2)) of about one in so many points, all or none of those at one place.
        count: How many points there are.

    Raises:
        ValueError: As ``mean_spacing``.
    """
    thinning = max(1, count // _SAMPLE)
    places = _distinct(sample(thinning))
    if len(places) < 2:
        places, thinning = _distinct(sample(1)), 1
    if len(places) < 2:
        raise ValueError("the points lie at one place: they have no spacing")
    low = places.min(axis=0)
    extent = places.max(axis=0) - low
    spacing = float(np.sqrt(max(extent[0] * extent[1], extent.max() ** 2 * 1e-4) / len(places)))
    # From the bounding box downwards: each round drops empty space that the coarser cells could not see.
    for _ in range(_ROUNDS):
        occupied, full = _occupied(places - low, spacing * _POINTS_PER_CELL**0.5)
        finer = float(np.sqrt(occupied * _POINTS_PER_CELL / max(full, 1))) * spacing
        if finer >= 0.98 * spacing:
            break
        spacing = finer
    return spacing / float(np.sqrt(thinning))


def _distinct(places: NDArray[np.float64]) -> NDArray[np.float64]:
    # As complex numbers: sorting those is ten times faster than sorting rows.
    ranked = np.sort(np.ascontiguousarray(places).view(np.complex128).ravel())
    first = np.ones(len(ranked), dtype=bool)
    first[1:] = ranked[1:] != ranked[:-1]
    return ranked[first].view(np.float64).reshape(-1, 2)


def _occupied(offsets: NDArray[np.float64], cell: float) -> tuple[int, int]:
    """Number of cells that hold well-filled ground, and the points in them.

    Cells with less than a third of the median count are cut by the outline, or stray; leaving them and
    their points out keeps the density of the rest.
    """
    columns = np.floor(offsets / cell).astype(np.int64)
    _, counts = np.unique(columns[:, 1] * (int(columns[:, 0].max()) + 1) + columns[:, 0], return_counts=True)
    counts = counts[3 * counts >= np.median(counts)]
    return len(counts), int(counts.sum())
