"""Points dealt out to square tiles on disk as they are read; a tile that fills up is quartered."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.point_kernels import extent
from pipeline.tiled.tile_kernels import dealt

Array = NDArray[np.float64]
Classes = NDArray[np.uint8]

ROOT_M = 4096.0  # edge of the largest tiles; whatever lies further apart is in different ones
DEEPEST = 12  # quarterings: tiles of one metre
EXPECTED_FILL = 0.7  # of a tile: density varies over a site
DEEPEST_GUESS = 7  # quarterings to begin with at most: tiles of 32 m
MOST_ROOTS = 4096  # a survey covers a few; beyond this the coordinates are scrap, and the last square takes it
_FARTHEST = 1e9


@dataclass(frozen=True, slots=True)
class Tile:
    """One square of a survey.

    Args:
        path: Its files, without their endings: ``.xyz`` holds float64 triples, ``.cls`` one byte a point.
        count: Number of points.
        low: Least x, y and z of its points, as stored, metres, shape (3,).
        high: The greatest.
        square: Left, bottom, right and top edge; the squares of a survey do not overlap.
    """

    path: Path
    count: int
    low: Array
    high: Array
    square: tuple[float, float, float, float]

    def points(self) -> Array:
        """Return its points as stored, metres, shape (n, 3)."""
        return np.fromfile(self.path.with_suffix(".xyz")).reshape(-1, 3)

    def classes(self) -> Classes:
        """Return their ASPRS classes, shape (n,)."""
        return np.fromfile(self.path.with_suffix(".cls"), np.uint8)

    def rewritten(self, points: Array, classes: Classes | None) -> "Tile":
        """Replace its points and return what it is then."""
        self.path.with_suffix(".xyz").write_bytes(np.ascontiguousarray(points).data)
        if classes is not None:
            self.path.with_suffix(".cls").write_bytes(np.ascontiguousarray(classes).data)
        low, high = extent(points)
        return Tile(self.path, len(points), low, high, self.square)


@dataclass(slots=True)
class _Leaf:
    """A tile being filled: its place in the quadtree, in tiles of its own size."""

    path: Path
    level: int
    row: int
    col: int
    count: int = 0
    low: Array = field(default_factory=lambda: np.full(3, np.inf))
    high: Array = field(default_factory=lambda: np.full(3, -np.inf))

    def add(self, points: Array, classes: Classes) -> None:
        # Not ndarray.tofile, which hides why a disk refused.
        for ending, data in ((".xyz", points), (".cls", classes)):
            with self.path.with_suffix(ending).open("ab") as stream:
                stream.write(np.ascontiguousarray(data).data)
        low, high = extent(points)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self.count += len(points)


class _Root:
    """A quadtree over one square of ``ROOT_M``."""

    def __init__(self, folder: Path, row: int, col: int, most: int, depth: int) -> None:
        self._folder, self._most = folder, most
        self._x0, self._y0 = col * ROOT_M, row * ROOT_M
        self._depth = depth
        side = 2**depth
        self._leaves = [
            _Leaf(folder / _path(depth, k // side, k % side), depth, k // side, k % side) for k in range(side**2)
        ]
        # which leaf each square of the deepest level belongs to
        self._table = np.arange(side**2, dtype=np.int32).reshape(side, side)
        folder.mkdir(parents=True)

    def take(self, points: Array, classes: Classes) -> None:
        edge = ROOT_M / 2**self._depth
        placed, kinds, starts = dealt(points, classes, self._table, self._x0, self._y0, edge, len(self._leaves))
        filled = np.flatnonzero(np.diff(starts))
        for k in filled:
            part = slice(starts[k], starts[k + 1])
            self._leaves[k].add(placed[part], kinds[part])
        for k in filled:
            self._quarter_if_full(int(k))

    def _quarter_if_full(self, number: int) -> None:
        leaf = self._leaves[number]
        if leaf.count <= self._most or leaf.level == DEEPEST:
            return
        if leaf.level == self._depth:
            self._depth += 1
            self._table = np.repeat(np.repeat(self._table, 2, axis=0), 2, axis=1)
        width = 2 ** (self._depth - leaf.level - 1)
        numbers = [number, *range(len(self._leaves), len(self._leaves) + 3)]
        quarters = []
        for k, (down, right) in zip(numbers, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
            row, col = 2 * leaf.row + down, 2 * leaf.col + right
            self._table[row * width : (row + 1) * width, col * width : (col + 1) * width] = k
            quarters.append(_Leaf(self._folder / _path(leaf.level + 1, row, col), leaf.level + 1, row, col))
        points: Array = np.fromfile(leaf.path.with_suffix(".xyz"), np.float64).reshape(-1, 3)
        classes: Classes = np.fromfile(leaf.path.with_suffix(".cls"), np.uint8)
        for ending in (".xyz", ".cls"):
            leaf.path.with_suffix(ending).unlink()
        self._leaves[number] = quarters[0]
        self._leaves.extend(quarters[1:])
        self.take(points, classes)

    def tiles(self) -> list[Tile]:
        """Return the tiles that hold points, neighbours near each other (their names are Z-order paths)."""
        found = []
        for leaf in sorted((leaf for leaf in self._leaves if leaf.count), key=lambda leaf: leaf.path.name):
            edge = ROOT_M / 2**leaf.level
            x, y = self._x0 + leaf.col * edge, self._y0 + leaf.row * edge
            found.append(Tile(leaf.path, leaf.count, leaf.low, leaf.high, (x, y, x + edge, y + edge)))
        return found


def _path(level: int, row: int, col: int) -> str:
    """Return the quarters that lead to a square from the root, such as ``t031``: in its order neighbours are near."""
    return "t" + "".join(str(2 * (row >> k & 1) + (col >> k & 1)) for k in reversed(range(level)))


class TileStore:
    """Takes a survey's points in any order and keeps them on disk by place.

    The tiles depend on the points alone, and points of one tile stay in the order in which they came.

    Args:
        folder: Where the files go; must not exist yet.
        most: Points beyond which a tile is quartered.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._depth = 0
        self._roots: dict[tuple[int, int], _Root] = {}

    def expect(self, count: int, area: float) -> None:
        """Begin with tiles of about the right size, so that few must be quartered later; a wrong guess costs only time.

        Args:
            count: Points that will come.
            area: That they cover, m².
        """
        if not (count > self._most and 0 < area < np.inf):
            return
        edge = np.sqrt(EXPECTED_FILL * self._most * area / count)
        self._depth = int(np.clip(np.ceil(np.log2(ROOT_M / edge)), 0, DEEPEST_GUESS))

    def take(self, points: Array, classes: Classes | None) -> None:
        """Add points.

        Args:
            points: Metres, shape (n, 3), finite.
            classes: ASPRS classes, shape (n,); None if the file has none.
        """
        if not len(points):
            return
        kinds = np.zeros(len(points), np.uint8) if classes is None else classes
        low, high = (np.floor(np.clip(corner[:2], -_FARTHEST, _FARTHEST) / ROOT_M) for corner in extent(points))
        if (low == high).all():
            self._root(int(low[1]), int(low[0])).take(points, kinds)
            return
        squares = np.floor(np.clip(points[:, 1::-1], -_FARTHEST, _FARTHEST) / ROOT_M).astype(np.int64)
        for row, col in np.unique(squares, axis=0).tolist():
            mine = (squares[:, 0] == row) & (squares[:, 1] == col)
            self._root(row, col).take(points[mine], kinds[mine])

    def restart(self) -> None:
        """Forget everything that was added."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._roots.clear()

    def tiles(self) -> tuple[Tile, ...]:
        """Return all tiles with points, row by row of the largest squares."""
        return tuple(tile for _, root in sorted(self._roots.items()) for tile in root.tiles())

    def _root(self, row: int, col: int) -> _Root:
        if (row, col) not in self._roots:
            if len(self._roots) >= MOST_ROOTS:
                return next(reversed(self._roots.values()))
            self._roots[row, col] = _Root(self._folder / f"{row},{col}", row, col, self._most, self._depth)
        return self._roots[row, col]
