"""What the readers of point clouds hand over, and how file coordinates become local metres."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import point_kernels

Array = NDArray[np.float64]
Classes = NDArray[np.uint8]
NOISE = (7, 18)  # ASPRS low and high noise
CHUNK = 500_000  # points decoded at a time: enough to keep every core busy, little enough to stay small
STRAY_SAMPLE = 10_000
BLOCK_BYTES = 64_000_000  # and never more than this at once, however long a record is


@dataclass(frozen=True, slots=True)
class Frame:
    """From file units to metres about a local zero: ``local = file · scale − origin``.

    Args:
        scale: Metres per file unit for x, y, z, shape (3,).
        origin: Map coordinates of the local zero, metres, shape (3,).
    """

    scale: Array
    origin: Array


@dataclass(frozen=True, slots=True)
class RawCloud:
    """The usable points of one file.

    Args:
        points: Local metres, shape (n, 3), finite, C-contiguous.
        classes: ASPRS classes, shape (n,); None if the file has none or classified nothing.
        flagged: Points left out because they are marked as noise or withheld.
        broken: Points left out because a coordinate is missing, NaN or infinite.
        told: Whether somebody classified the file.
    """

    points: Array
    classes: Classes | None
    flagged: int = 0
    broken: int = 0
    told: bool = False

    def select(self, keep: NDArray[np.bool_]) -> "RawCloud":
        """Return the points where ``keep`` is true."""
        classes = None if self.classes is None else self.classes[keep]
        return replace(self, points=point_kernels.rows_where(self.points, keep), classes=classes)


class Sink(Protocol):
    """Takes points that are not to stay in memory."""

    def take(self, points: Array, classes: Classes | None) -> None:
        """Add points (n, 3) and their ASPRS classes (n,)."""

    def restart(self) -> None:
        """Forget everything that was added."""


class Collector:
    """Gathers the points of a file chunk by chunk, leaving out what cannot be used.

    Args:
        frame: Where the local zero is.
        capacity: Points to make room for; more are taken if they come.
        classified: Whether classes will be given.
        into: Where points go instead of staying in memory.
    """

    def __init__(self, frame: Frame, capacity: int, classified: bool, into: Sink | None = None) -> None:
        self._frame = frame
        self._into = into
        if into is not None:
            into.restart()
            capacity = min(capacity, CHUNK)
        self._points = np.empty((capacity, 3))
        self._classes = np.empty(capacity, np.uint8) if classified else None
        self._count = self._flagged = self._broken = 0
        self._told = False  # whether a class above 1 came

    def add(
        self, columns: tuple[NDArray[np.generic], ...], linear: tuple[Array, Array], classes: Classes | None
    ) -> Array:
        """Take a chunk of points; return their local coordinates, before anything is left out.

        Args:
            columns: x, y and z, shape (n,) each, any real type.
            linear: Factors and offsets (shape (3,) each) that make file units of ``columns``.
            classes: ASPRS classes, shape (n,), or None.
        """
        rows = len(columns[0])
        self._grow(self._count + rows)
        local = self._points[self._count : self._count + rows]
        for i, column in enumerate(columns):
            scale = self._frame.scale[i]
            np.multiply(column, linear[0][i] * scale, out=local[:, i], casting="unsafe")
            local[:, i] += linear[1][i] * scale - self._frame.origin[i]
        keep: NDArray[np.bool_] = np.ones(rows, np.bool_)
        broken = 0
        if not np.isfinite(local.sum()):  # one NaN or infinity anywhere makes the sum one
            keep[:] = np.isfinite(local).all(axis=1)
            broken = rows - int(keep.sum())
        if classes is not None:
            keep &= (classes != NOISE[0]) & (classes != NOISE[1])
        kept = int(keep.sum())
        self._broken += broken
        self._flagged += rows - broken - kept
        before = local
        if kept < rows:
            before = local.copy()
            local[:kept] = before[keep]
        if self._classes is not None and classes is not None:
            self._classes[self._count : self._count + kept] = classes[keep] if kept < rows else classes
        self._keep(kept)
        return before

    def add_las(self, records: Classes, extended: bool, linear: tuple[Array, Array]) -> tuple[Array, Array]:
        """Take a chunk of LAS records; return the extent of all of them, local metres.

        Args:
            records: Shape (n, bytes of a record).
            extended: Whether the point format is 6 or above.
            linear: Factors and offsets (shape (3,) each) that make file units of the records' integers.
        """
        rows = len(records)
        self._grow(self._count + rows)
        if self._classes is None:
            raise ValueError("LAS records hold classes, and there is no room for them")
        kept, broken, low, high = point_kernels.decode_las(
            records, extended, linear[0] * self._frame.scale, linear[1] * self._frame.scale - self._frame.origin,
            self._points[self._count : self._count + rows], self._classes[self._count : self._count + rows],
        )  # fmt: skip
        self._broken += broken
        self._flagged += rows - broken - kept
        self._keep(kept)
        return low, high

    def _keep(self, rows: int) -> None:
        """Count the points just written behind the others, or hand them on."""
        part = slice(self._count, self._count + rows)
        classes = None if self._classes is None else self._classes[part]
        self._told |= classes is not None and bool(np.any(classes > 1))
        if self._into is None:
            self._count += rows
        else:
            self._into.take(self._points[part], classes)

    def done(self) -> RawCloud:
        """Return what was gathered; of points that were handed on only the tallies."""
        points = self._points[: self._count]
        if self._count < 0.9 * len(self._points):
            points = points.copy()
        # Classes 0 and 1 both mean that nobody classified.
        classes = self._classes[: self._count] if self._classes is not None and self._told else None
        return RawCloud(points, classes, self._flagged, self._broken, self._told)

    def _grow(self, needed: int) -> None:
        if needed > len(self._points):
            room = max(needed, len(self._points) * 3 // 2)
            points = np.empty((room, 3))
            points[: self._count] = self._points[: self._count]
            self._points = points
            if self._classes is not None:
                classes = np.empty(room, np.uint8)
                classes[: self._count] = self._classes[: self._count]
                self._classes = classes


def extent(points: Array) -> tuple[Array, Array]:
    """Return the least and the greatest coordinates, shape (3,) each; many times faster than ``min(axis=0)``."""
    low, high = point_kernels.extent(points)
    return low, high


def without_strays(cloud: RawCloud) -> tuple[RawCloud, int]:
    """Return the cloud without points absurdly far from all others, and how many that left out.

    Exports write missing points as (0, 0, 0); one of them would stretch the site to the equator. A point is a
    stray if it lies ten times the site's width (1 to 99 %) and a kilometre beyond it.
    """
    return cloud_within(cloud, *sound_bounds(cloud.points[:: max(1, len(cloud.points) // STRAY_SAMPLE)]))


def sound_bounds(sample: Array) -> tuple[Array, Array]:
    """Return the corners, shape (3,) each, of the box outside of which points are strays; infinite if too few tell."""
    if len(sample) < 10:
        return np.full(3, -np.inf), np.full(3, np.inf)
    low, high = np.quantile(sample, [0.01, 0.99], axis=0)
    reach = 10 * (high - low).max() + 1000.0
    return low - reach, high + reach


def cloud_within(cloud: RawCloud, low: Array, high: Array) -> tuple[RawCloud, int]:
    """Return the points in a box, both corners included, and how many that leaves out."""
    least, greatest = extent(cloud.points)
    if (least >= low).all() and (greatest <= high).all():
        return cloud, 0
    keep = np.asarray(((cloud.points >= low) & (cloud.points <= high)).all(axis=1))
    return cloud.select(keep), len(keep) - int(keep.sum())


def without_duplicates(cloud: RawCloud) -> tuple[RawCloud, int]:
    """Return the cloud with each place once, and how many points that left out.

    Overlapping tiles and merged exports repeat points exactly; they would pass for density. A 64-bit hash of
    the coordinates is sorted; the first of each place stays, in file order. Of large clouds a sixteenth is
    looked at first, chosen by the hash so that repeats stay together; what it misses is too little to matter.
    """
    bits = cloud.points.view(np.uint64)
    if not _repeats(point_kernels.keys(bits, 15 if len(bits) > 200_000 else 0)):
        return cloud, 0
    suspects, keys = point_kernels.suspects(bits)
    order = suspects[np.argsort(keys, kind="stable")]
    ranked = cloud.points[order]
    repeated = np.zeros(len(bits), bool)
    repeated[order[1:]] = np.all(ranked[1:] == ranked[:-1], axis=1)
    if not repeated.any():
        return cloud, 0
    return cloud.select(~repeated), int(repeated.sum())


def _repeats(keys: NDArray[np.uint64]) -> bool:
    ranked = np.sort(keys)
    return bool(np.any(ranked[1:] == ranked[:-1]))
