"""A survey in tiles as somebody else sees it: its tiles as files by name, the rest as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pipeline.tiled.cloud import TiledCloud
from pipeline.tiled.store import Tile


def described(cloud: TiledCloud, numbers: Sequence[int], name: str) -> tuple[dict[str, Any], dict[str, Path]]:
    """Return some tiles of a survey for somebody else, who needs no classes.

    Args:
        cloud: The survey.
        numbers: Of its tiles, ascending.
        name: What its files' names begin with; two views of one survey may share it.

    Returns:
        The survey, and its files by name.
    """
    tiles, files = [], {}
    for number in numbers:
        tile = cloud.tiles[number]
        files[f"{name}{number}.xyz"] = tile.path.with_suffix(".xyz")
        if cloud.part is not None:
            files[f"{name}{number}.part"] = tile.path.with_suffix(".part")
        held = cloud.held[number] if cloud.part is not None else 0
        tiles.append([f"{name}{number}", tile.count, tile.low.tolist(), tile.high.tolist(), tile.square, held])
    about = {
        "tiles": tiles,
        "origin": cloud.origin.tolist(),
        "shift": cloud.shift.tolist(),
        "matrix": None if cloud.matrix is None else cloud.matrix.tolist(),
        "part": cloud.part,
    }
    return about, files


@contextmanager
def folder_of(files: Mapping[str, Path]) -> Iterator[Path]:
    """Yield a folder in which files, wherever they are, have their names."""
    with TemporaryDirectory(prefix="tiles-") as name:
        folder = Path(name)
        for called, path in files.items():
            (folder / called).symlink_to(path.resolve())
        yield folder


def seen(about: Mapping[str, Any], folder: Path) -> TiledCloud:
    """Return a survey that was described, its files by name in a folder."""
    tiles = tuple(
        Tile(folder / name, count, np.array(low), np.array(high), tuple(square))
        for name, count, low, high, square, _ in about["tiles"]
    )
    return TiledCloud(
        tiles,
        np.array(about["origin"]),
        shift=np.array(about["shift"]),
        matrix=None if about["matrix"] is None else np.array(about["matrix"]),
        part=about["part"],
        held=() if about["part"] is None else tuple(tile[-1] for tile in about["tiles"]),
    )
