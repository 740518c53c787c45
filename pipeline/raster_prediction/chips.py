"""The chips that one step leaves for the other: squares that overlap, a GeoTIFF each, and a list of them."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import Artifact

LIST = "chips.json"


class Chip(BaseModel):
    """A square of a grid.

    Args:
        row: Of its first cell; it may reach beyond the grid, where it is empty.
        column: Likewise.
        name: Its file; none if nothing was seen in it.
    """

    model_config = ConfigDict(frozen=True)

    row: int
    column: int
    name: str | None


class Area(BaseModel):
    """A place, laid onto a grid, and what was seen there.

    Args:
        box: As asked for: west, south, east, north, degrees.
        transform: Of the grid, six numbers as GDAL orders them.
        scenes: Of each time step, those that were used.
        clear: Of each time step, the share of cells that were seen.
    """

    box: tuple[float, float, float, float]
    crs: str
    transform: tuple[float, float, float, float, float, float]
    width: int
    height: int
    scenes: list[list[dict[str, str | float | None]]]
    clear: list[float]
    chips: list[Chip]

    @property
    def affine(self) -> Affine:
        """The transform."""
        return Affine.from_gdal(*self.transform)


class ChipList(BaseModel):
    """Everything that the first step leaves."""

    chip_size: int
    overlap: int
    time_steps: int
    bands: list[str]
    areas: list[Area]

    def write(self, folder: Path) -> Artifact:
        """Write the list."""
        (folder / LIST).write_text(json.dumps(self.model_dump(mode="json"), allow_nan=False))
        return Artifact(LIST, "application/json", "List of chips")


def starts(length: int, size: int, overlap: int) -> list[int]:
    """Return where squares begin that cover a length and share so many cells with their neighbours.

    >>> starts(100, 64, 16), starts(64, 64, 16), starts(20, 64, 16)
    ([0, 48], [0], [0])
    """
    step = size - overlap
    return list(range(0, max(1, length - overlap), step))


def cut(cells: NDArray[np.float32], size: int, overlap: int) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Yield row, column and content of each square, NaN beyond the edge.

    Args:
        cells: Shape (layers, rows, columns).
        size: Edge of a square, cells.
        overlap: Cells that neighbours share.
    """
    _, rows, columns = cells.shape
    for row in starts(rows, size, overlap):
        for column in starts(columns, size, overlap):
            square = np.full((cells.shape[0], size, size), np.nan, np.float32)
            part = cells[:, row : row + size, column : column + size]
            square[:, : part.shape[1], : part.shape[2]] = part
            yield row, column, square


def write(path: Path, square: NDArray[np.float32], crs: str, transform: Affine, names: list[str]) -> None:
    """Write a chip as a GeoTIFF whose nodata is NaN, a band for each layer."""
    profile = {
        "driver": "GTiff",
        "dtype": "float32",
        "count": square.shape[0],
        "height": square.shape[1],
        "width": square.shape[2],
        "crs": crs,
        "transform": transform,
        "nodata": np.nan,
        "compress": "deflate",
        "predictor": 3,
    }
    with rasterio.open(path, "w", **profile) as file:
        file.write(square)
        for number, name in enumerate(names, start=1):
            file.set_band_description(number, name)


def read(path: Path) -> NDArray[np.float32]:
    """Return a chip's layers, shape (layers, rows, columns)."""
    with rasterio.open(path) as file:
        cells: NDArray[np.float32] = file.read()
        return cells
