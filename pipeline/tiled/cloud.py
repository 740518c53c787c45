"""A survey that stays on disk: the same questions as a cloud in memory, answered tile by tile."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.clouds import Box, PointCloud, Points
from pipeline.geometry.kernels import sample_by_place
from pipeline.geometry.point_kernels import extent
from pipeline.geometry.spacing import spacing_of_places
from pipeline.tiled.store import Tile
from pipeline.tiled.tile_kernels import in_box

OUTLINE = 100_000  # points that tell where nearly all lie
REMEMBERED = 12  # tiles kept in memory while neighbours are asked for

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TiledCloud:
    """One survey on disk.

    Args:
        tiles: Where its points are; they partition the plane.
        origin: Map coordinates of the local zero, metres, shape (3,).
        classified: Whether the classes mean anything.
        crs: The coordinate system, as in ``PointCloud``.
        name: The file's name, for messages.
        shift: What is taken off the stored coordinates, metres, shape (3,).
        matrix: Rigid motion of the points, local metres, 4 × 4; None = none.
        part: Which of the parts made by ``split`` this is; None = all points.
        held: Points of each tile that are this cloud's.
    """

    tiles: tuple[Tile, ...]
    origin: Array
    classified: bool = False
    crs: str | None = None
    name: str = ""
    shift: Array = field(default_factory=lambda: np.zeros(3))
    matrix: Array | None = None
    part: int | None = None
    held: tuple[int, ...] = ()

    def __len__(self) -> int:
        return sum(self.held) if self.part is not None else sum(tile.count for tile in self.tiles)

    def blocks(self) -> Iterator[PointCloud]:
        """Yield the cloud tile by tile, in order; the next is read while one is worked on."""
        with ThreadPoolExecutor(1) as reader:
            following = [reader.submit(self._load, 0)] if self.tiles else []
            for k in range(len(self.tiles)):
                block = following.pop().result()
                if k + 1 < len(self.tiles):
                    following.append(reader.submit(self._load, k + 1))
                yield block

    def _load(self, number: int) -> PointCloud:
        tile = self.tiles[number]
        points = tile.points()
        classes = tile.classes() if self.classified else None
        if self.shift.any():
            np.subtract(points, self.shift, out=points)
        block = PointCloud(points, self.origin, classes, self.crs, self.name)
        if self.part is not None:
            block = block.select(np.fromfile(tile.path.with_suffix(".part"), np.uint8) == self.part)
        return block if self.matrix is None else block.moved(self.matrix)

    @cached_property
    def extent(self) -> tuple[Array, Array]:
        """Least and greatest coordinates, local metres, shape (3,) each; infinite if the cloud is empty."""
        if self.matrix is None and self.part is None:
            return (
                np.min([t.low for t in self.tiles], axis=0) - self.shift,
                np.max([t.high for t in self.tiles], axis=0) - self.shift,
            )
        corners = [extent(block.points) for block in self.blocks() if len(block)]
        return (
            np.min([low for low, _ in corners], axis=0, initial=np.inf),
            np.max([high for _, high in corners], axis=0, initial=-np.inf),
        )

    @cached_property
    def class_counts(self) -> NDArray[np.int64] | None:
        """Points of each ASPRS class, shape (256,); None where nobody classified."""
        if not self.classified:
            return None
        counts = np.zeros(256, np.int64)
        for block in self.blocks():
            if block.classes is not None:
                counts += np.bincount(block.classes, minlength=256)
        return counts

    def sample(self, most: int) -> Points:
        """Return about so many of the points, every n-th, tile by tile, shape (m, 3)."""
        return self._sampled(max(1, len(self) // most))

    @cached_property
    def _sampled(self) -> Callable[[int], Points]:
        return lru_cache(2)(self._every)

    def _every(self, step: int) -> Points:
        found, seen = [np.zeros((0, 3))], 0
        for block in self.blocks():
            found.append(block.points[-seen % step :: step].copy())
            seen += len(block)
        return np.vstack(found)

    def outline(self) -> Points:
        """Return a sample of the points, and the corners of the box that holds all."""
        return np.vstack([self.sample(OUTLINE), *self.extent]) if len(self) else np.zeros((0, 3))

    def spacing(self) -> float:
        """Return the typical distance between neighbours in plan, metres; ``ValueError`` if there is none."""

        def places(one_in: int) -> Array:
            return np.vstack([np.zeros((0, 2)), *(sample_by_place(block.points, one_in) for block in self.blocks())])

        return spacing_of_places(places, len(self))

    def where(self, keep: Callable[[PointCloud], NDArray[np.bool_]]) -> "TiledCloud":
        """Return the part of the points for which ``keep`` says true, asked tile by tile."""
        return self.split(lambda block: keep(block).astype(np.uint8), 1)[0]

    def split(self, tell: Callable[[PointCloud], NDArray[np.uint8]], *parts: int) -> tuple["TiledCloud", ...]:
        """Split the whole cloud; an earlier split of the same survey is forgotten.

        Args:
            tell: Returns a number for each point of a block, shape (n,).
            parts: The numbers of the clouds to return.

        Raises:
            ValueError: If the cloud is itself a part.
        """
        return self.parted((tell(block) for block in self.blocks()), *parts)

    def parted(self, told: Iterable[NDArray[np.uint8]], *parts: int) -> tuple["TiledCloud", ...]:
        """Split the whole cloud as ``split`` does, where the numbers of each tile's points are known already."""
        if self.part is not None:
            raise ValueError("a part of a tiled survey cannot be split again")
        held = []
        for tile, numbers in zip(self.tiles, told, strict=True):
            tile.path.with_suffix(".part").write_bytes(numbers.tobytes())
            held.append(np.bincount(numbers, minlength=256))
        return tuple(replace(self, part=part, held=tuple(int(counts[part]) for counts in held)) for part in parts)

    def moved(self, matrix: Array) -> "TiledCloud":
        """Return the cloud after a rigid motion, 4 × 4 in local coordinates."""
        return replace(self, matrix=matrix if self.matrix is None else matrix @ self.matrix)

    def windows(self) -> tuple[Box, ...]:
        """Return squares that partition the plane and hold about as many points each as memory likes."""
        x, y = self.shift[:2]
        return tuple((a - x, b - y, c - x, d - y) for a, b, c, d in (tile.square for tile in self.tiles))

    def near(self, box: Box) -> Points:
        """Return the points in a box, both edges included, shape (m, 3)."""
        return np.vstack([np.zeros((0, 3)), *(in_box(self._remembered(k), *box) for k in self.meeting(box))])

    def meeting(self, box: Box) -> list[int]:
        """Return the numbers of the tiles whose points may lie in a box, ascending."""
        return [
            k
            for k, (left, bottom, right, top) in enumerate(self._boxes)
            if left <= box[2] and right >= box[0] and bottom <= box[3] and top >= box[1]
        ]

    @cached_property
    def _remembered(self) -> Callable[[int], Points]:
        return lru_cache(REMEMBERED)(lambda number: self._load(number).points)

    @cached_property
    def _boxes(self) -> tuple[Box, ...]:
        """A box in plan around the points of each tile, as they lie after the motion."""
        boxes = []
        for tile in self.tiles:
            low, high = tile.low - self.shift, tile.high - self.shift
            corners = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1).T
            if self.matrix is not None:
                corners = corners @ self.matrix[:3, :3].T + self.matrix[:3, 3]
            (left, bottom), (right, top) = corners[:, :2].min(axis=0), corners[:, :2].max(axis=0)
            boxes.append((float(left), float(bottom), float(right), float(top)))
        return tuple(boxes)
