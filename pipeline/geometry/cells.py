"""Points sorted into square cells, and what cylinders and spheres around core points hold of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import kernels
from pipeline.geometry.extent import grid_over

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

_CELLS_PER_POINT = 8
_CELLS_AT_LEAST = 1 << 16
_CELLS_AT_MOST = (1 << 31) - 1  # the kernels number them in 32 bits


@dataclass(frozen=True, slots=True)
class CellList:
    """An index of points by their cell in plan.

    Args:
        points: The points sorted by cell, in the given order within each, metres, shape (n, 3).
        starts: Where each cell's points begin in ``points``, shape (rows * cols + 1,); cell = row * cols + col.
        x0: Lowest x, metres.
        y0: Lowest y, metres.
        cell: Edge of a cell, metres; larger than asked for where the extent would need too many cells.
        rows: Number of cells along y.
        cols: Number of cells along x.
    """

    points: Array
    starts: Ints
    x0: float
    y0: float
    cell: float
    rows: int
    cols: int

    @classmethod
    def build(cls, points: Array, cell: float) -> "CellList":
        """Sort points into cells.

        Args:
            points: Metres, shape (n, 3), finite.
            cell: Wanted edge of a cell, metres; the search radius is a good choice.

        Raises:
            ValueError: If ``cell`` is not positive.

        >>> index = CellList.build(np.array([[2.5, 0, 0], [0.5, 0, 0], [2.6, 0, 0]]), 1.0)
        >>> index.starts.tolist(), index.points[:, 0].tolist()
        ([0, 1, 1, 3], [0.5, 2.5, 2.6])
        """
        if not cell > 0:
            raise ValueError(f"cell must be positive, got {cell}")
        points = np.ascontiguousarray(points, dtype=np.float64)
        if len(points) == 0:
            return cls(points.reshape(0, 3), np.zeros(2, np.int64), 0.0, 0.0, cell, 1, 1)
        limit = min(max(_CELLS_PER_POINT * len(points), _CELLS_AT_LEAST), _CELLS_AT_MOST)
        x0, y0, cell, rows, cols = grid_over(points, cell, limit)
        placed, starts = kernels.sort_into_cells(points, x0, y0, cell, rows, cols)
        return cls(placed, starts, x0, y0, cell, rows, cols)

    def __len__(self) -> int:
        return len(self.points)

    @property
    def grid(self) -> tuple[float, float, float, int, int]:
        """x0, y0, cell, rows, cols: what the compiled loops need."""
        return self.x0, self.y0, self.cell, self.rows, self.cols


def cylinder_stats(
    index: CellList, cores: Array, normals: Array, radius: float, half_length: float
) -> tuple[Ints, Array, Array]:
    """Summarise the points inside a cylinder around each core point.

    Args:
        index: The points.
        cores: Middle of each cylinder, metres, shape (m, 3).
        normals: Unit vector along each cylinder, shape (m, 3).
        radius: Of the cylinders, metres.
        half_length: From the middle to either end, metres.

    Returns:
        Count; mean signed distance along the normal, metres, NaN without points; sample variance (n − 1)
        of that distance, m², NaN below two points. Each of shape (m,).

    Source:
        M3C2, Lague et al. (2013), doi:10.1016/j.isprsjprs.2013.04.009.

    >>> index = CellList.build(np.array([[0, 0, 1.0], [0.1, 0, 3.0], [5, 0, 0]]), 1.0)
    >>> count, mean, variance = cylinder_stats(index, np.zeros((1, 3)), np.array([[0, 0, 1.0]]), 0.5, 10.0)
    >>> count.tolist(), mean.tolist(), variance.tolist()
    ([2], [2.0], [2.0])
    """
    cores = np.ascontiguousarray(cores, dtype=np.float64)
    normals = np.ascontiguousarray(normals, dtype=np.float64)
    count, mean, variance = kernels.cylinders(
        index.points, index.starts, index.grid, cores, normals, float(radius), float(half_length)
    )
    return count, mean, variance


def normals(index: CellList, cores: Array, radius: float) -> tuple[Array, Array, Ints]:
    """Fit a plane to the points in a sphere around each core point.

    Args:
        index: The points.
        cores: Centres, metres, shape (m, 3).
        radius: Of the spheres, metres.

    Returns:
        Unit normals that point upward, shape (m, 3), vertical where fewer than three points were found;
        roughness, the standard deviation across the plane, metres, shape (m,), NaN where there is no
        plane; and the number of points, shape (m,).

    >>> x, y = np.meshgrid(np.arange(9.0), np.arange(9.0))
    >>> slope = np.column_stack([x.ravel(), y.ravel(), x.ravel()])
    >>> normal, roughness, _ = normals(CellList.build(slope, 2.0), np.array([[4.0, 4, 4]]), 3.0)
    >>> np.allclose(normal, [[-(0.5**0.5), 0, 0.5**0.5]]), bool(roughness[0] < 1e-6)
    (True, True)
    """
    cores = np.ascontiguousarray(cores, dtype=np.float64)
    normal, roughness, count = kernels.planes(index.points, index.starts, index.grid, cores, float(radius))
    return normal, roughness, count
