"""A survey in memory: points near a local origin, so that no digit is lost."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.point_kernels import rows_where

Points = NDArray[np.float64]
"""Coordinates in metres relative to a local origin, shape (n, 3)."""


@dataclass(frozen=True, slots=True)
class PointCloud:
    """One survey.

    Args:
        points: Metres relative to ``origin``, shape (n, 3), finite, C-contiguous.
        origin: Map coordinates of the local zero, metres, shape (3,). Both surveys of a pair share it.
        classes: ASPRS class per point, shape (n,) uint8, or None where the file has none.
        crs: The coordinate system as ``EPSG:n`` or WKT in metres; None if the file names none.
        name: The file's name, for messages.
    """

    points: Points
    origin: NDArray[np.float64]
    classes: NDArray[np.uint8] | None = None
    crs: str | None = None
    name: str = ""

    def __len__(self) -> int:
        return len(self.points)

    def select(self, keep: NDArray[np.bool_]) -> "PointCloud":
        """Return the points where ``keep`` (shape (n,)) is true."""
        classes = None if self.classes is None else self.classes[keep]
        return replace(self, points=rows_where(self.points, keep), classes=classes)

    def moved(self, matrix: NDArray[np.float64]) -> "PointCloud":
        """Return the cloud after a rigid motion; ``matrix`` is 4 × 4 in local coordinates.

        >>> cloud = PointCloud(np.zeros((1, 3)), np.zeros(3))
        >>> shift = np.eye(4); shift[2, 3] = 0.5
        >>> cloud.moved(shift).points.tolist()
        [[0.0, 0.0, 0.5]]
        """
        return replace(self, points=self.points @ matrix[:3, :3].T + matrix[:3, 3])
