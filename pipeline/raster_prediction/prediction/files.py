"""A map's files: cloud-optimised GeoTIFFs for machines, a picture for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from PIL import Image

NOTHING = 255
"""The class of cells about which nothing is known."""
_LONGEST = 1024  # side of a picture, pixels


def write_cog(
    path: Path,
    cells: NDArray[Any],
    *,
    crs: str,
    transform: Affine,
    nodata: float,
    colours: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write a cloud-optimised GeoTIFF of one band.

    Args:
        path: Where to.
        cells: Shape (rows, columns).
        crs: Of the cells.
        transform: From column and row to coordinates.
        nodata: What stands where nothing is known.
        colours: Of the values 0, 1, …, as ``#rrggbb``.
        tags: Further facts for whoever opens it.
    """
    profile = {
        "driver": "GTiff",
        "dtype": cells.dtype.name,
        "count": 1,
        "height": cells.shape[0],
        "width": cells.shape[1],
        "crs": crs,
        "transform": transform,
        "nodata": nodata,
    }
    with TemporaryDirectory() as folder:
        plain = Path(folder, "plain.tif")
        with rasterio.open(plain, "w", **profile) as file:
            file.write(cells, 1)
            file.update_tags(**(tags or {}))
            if colours:
                file.write_colormap(1, {value: (*_rgb(colour), 255) for value, colour in enumerate(colours)})
        predictor = {"predictor": 3} if cells.dtype.kind == "f" else {}
        overviews = "nearest" if cells.dtype.kind != "f" else "average"
        options = {"compress": "deflate", "blocksize": 256, "overview_resampling": overviews, **predictor}
        rasterio.shutil.copy(plain, path, driver="COG", **options)


def draw_classes(path: Path, classes: NDArray[np.uint8], colours: Sequence[str]) -> None:
    """Draw a class map; transparent where nothing is known."""
    table = np.zeros((256, 4), np.uint8)
    for value, colour in enumerate(colours):
        table[value] = (*_rgb(colour), 255)
    _draw(path, table[_thinned(classes)])


def draw_values(path: Path, values: NDArray[np.float32], shown: tuple[float, float]) -> None:
    """Draw values from dark to light; transparent where nothing is known."""
    thin = _thinned(values)
    low, high = shown
    with np.errstate(invalid="ignore"):
        share = np.clip((thin - low) / (high - low or 1.0), 0, 1)
    grey = np.nan_to_num(share * 255).round().astype(np.uint8)
    _draw(path, np.dstack([grey, grey, grey, np.where(np.isnan(thin), 0, 255).astype(np.uint8)]))


def _thinned(cells: NDArray[Any]) -> NDArray[Any]:
    every = -(-max(cells.shape) // _LONGEST)
    return cells[every // 2 :: every, every // 2 :: every]


def _draw(path: Path, pixels: NDArray[np.uint8]) -> None:
    Image.fromarray(pixels, "RGBA").save(path, optimize=True)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
