"""A survey in memory: points near a local origin, so that no digit is lost."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import point_kernels
from pipeline.geometry.spacing import mean_spacing

Points = NDArray[np.float64]
"""Coordinates in metres relative to a local origin, shape (n, 3)."""
Box = tuple[float, float, float, float]
"""Left, bottom, right and top, local metres."""
EVERYWHERE: Box = (-np.inf, -np.inf, np.inf, np.inf)


class Cloud(Protocol):
    """One survey, wherever its points are kept: what the method asks of it.

    Everything is answered block by block, so that a stage needs memory for one block and for its result.
    """

    @property
    def origin(self) -> NDArray[np.float64]:
        """Map coordinates of the local zero, metres, shape (3,). Both surveys of a pair share it."""

    @property
    def crs(self) -> str | None:
        """The coordinate system as ``EPSG:n`` or WKT in metres; None if the file names none."""

    @property
    def name(self) -> str:
        """The file's name, for messages."""

    @property
    def extent(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Least and greatest coordinates, local metres, shape (3,) each."""

    @property
    def class_counts(self) -> NDArray[np.int64] | None:
        """Points of each ASPRS class, shape (256,); None where nobody classified."""

    def __len__(self) -> int:
        """How many points there are."""

    def blocks(self) -> Iterator["PointCloud"]:
        """Yield all points, a block at a time."""

    def sample(self, most: int) -> Points:
        """Return about so many of the points, every n-th, shape (m, 3)."""

    def outline(self) -> Points:
        """Return points that cover the whole extent and are spread like all, shape (m, 3)."""

    def spacing(self) -> float:
        """Return the typical distance between neighbours in plan, metres.

        Raises:
            ValueError: If all points lie at one place, or there are none.
        """

    def where(self, keep: Callable[["PointCloud"], NDArray[np.bool_]]) -> Self:
        """Return the points for which ``keep`` says true, asked block by block."""

    def split(self, tell: Callable[["PointCloud"], NDArray[np.uint8]], *parts: int) -> tuple[Self, ...]:
        """Return the points that ``tell`` gives each of these numbers, asked block by block."""

    def moved(self, matrix: NDArray[np.float64]) -> Self:
        """Return the cloud after a rigid motion, 4 × 4 in local coordinates."""

    def windows(self) -> tuple[Box, ...]:
        """Return boxes that partition the plane and hold about a block's points each."""

    def near(self, box: Box) -> Points:
        """Return the points in a box, shape (m, 3)."""


@dataclass(frozen=True, slots=True)
class PointCloud:
    """One survey, or a block of one, in memory.

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

    @property
    def extent(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Least and greatest coordinates, local metres, shape (3,) each."""
        low, high = point_kernels.extent(self.points)
        return low, high

    @property
    def class_counts(self) -> NDArray[np.int64] | None:
        """Points of each ASPRS class, shape (256,); None where nobody classified."""
        return None if self.classes is None else np.bincount(self.classes, minlength=256)

    def blocks(self) -> Iterator["PointCloud"]:
        """Yield the cloud itself: all of it is in memory."""
        yield self

    def sample(self, most: int) -> Points:
        """Return about so many of the points, every n-th, shape (m, 3)."""
        return self.points[:: max(1, len(self.points) // most)]

    def outline(self) -> Points:
        """Return all points: they are at hand."""
        return self.points

    def spacing(self) -> float:
        """Return the typical distance between neighbours in plan, metres; ``ValueError`` if there is none."""
        return mean_spacing(self.points)

    def select(self, keep: NDArray[np.bool_]) -> "PointCloud":
        """Return the points where ``keep`` (shape (n,)) is true."""
        classes = None if self.classes is None else self.classes[keep]
        return replace(self, points=point_kernels.rows_where(self.points, keep), classes=classes)

    def where(self, keep: Callable[["PointCloud"], NDArray[np.bool_]]) -> "PointCloud":
        """Return the points for which ``keep`` says true; the cloud itself if those are all."""
        kept = keep(self)
        return self if kept.all() else self.select(kept)

    def split(self, tell: Callable[["PointCloud"], NDArray[np.uint8]], *parts: int) -> tuple["PointCloud", ...]:
        """Return the points that ``tell`` gives each of these numbers; the cloud itself where those are all."""
        told = tell(self)
        masks = [told == part for part in parts]
        return tuple(self if mask.all() else self.select(mask) for mask in masks)

    def moved(self, matrix: NDArray[np.float64]) -> "PointCloud":
        """Return the cloud after a rigid motion; ``matrix`` is 4 × 4 in local coordinates.

        >>> cloud = PointCloud(np.zeros((1, 3)), np.zeros(3))
        >>> shift = np.eye(4); shift[2, 3] = 0.5
        >>> cloud.moved(shift).points.tolist()
        [[0.0, 0.0, 0.5]]
        """
        return replace(self, points=self.points @ matrix[:3, :3].T + matrix[:3, 3])

    def windows(self) -> tuple[Box, ...]:
        """Return one box for all: everything is in memory."""
        return (EVERYWHERE,)

    def near(self, box: Box) -> Points:
        """Return the points in a box, both edges included, shape (m, 3)."""
        if box == EVERYWHERE:
            return self.points
        x, y = self.points[:, 0], self.points[:, 1]
        return point_kernels.rows_where(self.points, (x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3]))
