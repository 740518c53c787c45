"""What do a scene's files say about the cells of a grid?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from pipeline.raster_prediction.scenes.catalogue import Scene
from pipeline.raster_prediction.scenes.grid import Grid
from pipeline.raster_prediction.scenes.reach import OutOfReach, Reach
from pipeline.raster_prediction.sources import Mask

Masked = np.ma.MaskedArray[Any, np.dtype[Any]]
"""Numbers as they stand in a file, shape (rows, columns); masked where there is nothing."""


class Unreadable(ValueError):
    """A scene cannot be used; says why."""


@dataclass(frozen=True, slots=True)
class Strip:
    """Some rows of a grid, over its whole width.

    Args:
        row: The first.
        rows: How many.
    """

    row: int
    rows: int


def read_bands(scene: Scene, bands: tuple[str, ...], grid: Grid, strip: Strip, reach: Reach) -> NDArray[np.float32]:
    """Return what a scene shows of a strip, shape (bands, rows, columns); NaN where it saw no ground in some band.

    Numbers become what they mean by scale and offset. What the mask calls a cloud, or nothing, is left out in all
    bands.

    Raises:
        Unreadable: If a file is missing, damaged, or may not be read.
    """
    seen = np.stack([_band(scene, band, grid, strip, reach) for band in bands])
    lost = np.isnan(seen).any(axis=0)
    mask = scene.collection.mask
    if mask is not None and not lost.all():
        lost |= _masked(scene, mask, grid, strip, reach)
    seen[:, lost] = np.nan
    return seen


def _band(scene: Scene, band: str, grid: Grid, strip: Strip, reach: Reach) -> NDArray[np.float32]:
    collection = scene.collection
    href, own_scale, own_offset = _file(scene, collection.assets[band])
    scale, offset = collection.scale, collection.offset
    if collection.item_scale:
        scale = scale if own_scale is None else own_scale
        offset = offset if own_offset is None else own_offset
    raw = _warped(href, grid, strip, reach, collection.nodata, Resampling.bilinear)
    values: NDArray[np.float64] = raw.filled(0).astype(np.float64) * scale + offset
    values[np.ma.getmaskarray(raw)] = np.nan
    return values.astype(np.float32)


def _masked(scene: Scene, mask: Mask, grid: Grid, strip: Strip, reach: Reach) -> NDArray[np.bool_]:
    href, _, _ = _file(scene, mask.asset)
    raw = _warped(href, grid, strip, reach, mask.nodata, Resampling.nearest)
    values: NDArray[np.int64] = raw.filled(0).astype(np.int64)
    bits = sum(1 << bit for bit in mask.bits)
    found: NDArray[np.bool_] = np.ma.getmaskarray(raw) | np.isin(values, mask.classes) | (values & bits != 0)
    return found


def _file(scene: Scene, asset: str) -> tuple[str, float | None, float | None]:
    if asset not in scene.files:
        raise Unreadable(f"it has no asset {asset!r}")
    return scene.files[asset]


def _warped(href: str, grid: Grid, strip: Strip, reach: Reach, nodata: float | None, how: Resampling) -> Masked:
    window = Window(0, strip.row, grid.width, strip.rows)
    try:
        # Nothing but GeoTIFF: other formats may name further files.
        with rasterio.open(reach.raster(href), driver="GTiff") as source:
            if source.crs is None:
                raise Unreadable("a file has no coordinate system")
            empty = source.nodata if nodata is None else nodata
            with WarpedVRT(
                source,
                crs=grid.crs,
                transform=grid.transform,
                width=grid.width,
                height=grid.height,
                resampling=how,
                src_nodata=empty,
                nodata=empty,
                add_alpha=empty is None,  # outside of the file is nothing, not 0
                dtype="float32" if how is Resampling.bilinear else None,
            ) as warped:
                found: Masked = warped.read(1, window=window, masked=empty is not None)
                if empty is None:
                    found = np.ma.MaskedArray(found, warped.read(warped.count, window=window) == 0)
                return found
    except OutOfReach as error:
        raise Unreadable(f"a file may not be read: {error}") from None
    except RasterioError as error:
        raise Unreadable(f"a file cannot be read: {' '.join(str(error).split())[:200]}") from None
