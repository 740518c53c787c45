"""Files of the result for other programs: QGIS, CloudCompare, scripts."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from pipeline.contracts import Artifact
from pipeline.errors import StorageFull
from pipeline.volume_change.output.document import json_ready, map_polygon
from pipeline.volume_change.output.geopackage import Layer, geopackage
from pipeline.volume_change.output.lean import without
from pipeline.volume_change.types import Analysis, Hull

with without("boto3", "requests"):  # clouds are read and written from files here
    import laspy
    import rasterio
    from laspy.vlrs.known import WktCoordinateSystemVlr
    from rasterio.errors import CRSError as RasterCRSError
    from rasterio.io import MemoryFile
    from rasterio.transform import Affine

_NUMBERS = (
    "score", "area", "cut_volume", "fill_volume", "net_volume", "mean_change", "max_change", "coverage",
)  # fmt: skip
_INTERVALS = ("cut_volume_ci95", "fill_volume_ci95", "net_volume_ci95")
_DEGREE_DECIMALS = 8  # about a millimetre


def write_results(analysis: Analysis, outdir: Path, images: Sequence[str] = ()) -> tuple[Artifact, ...]:
    """Write the files for other programs.

    Args:
        analysis: The finished analysis.
        outdir: The result folder; exists.
        images: Path of each hull's picture below the result folder, in the hulls' order; empty = none.

    Returns:
        What was written.

    Raises:
        StorageFull: If a file cannot be written.
    """
    write_file(outdir / "hulls.geojson", hulls_geojson(analysis, images))
    write_file(outdir / "hulls.gpkg", hulls_geopackage(analysis, images))
    write_file(outdir / "difference.tif", difference_geotiff(analysis))
    write_file(outdir / "changed_points.laz", core_points_laz(analysis))
    return (
        Artifact("hulls.geojson", "application/geo+json", "Changes (GeoJSON)"),
        Artifact("hulls.gpkg", "application/geopackage+sqlite3", "Changes and stable ground (GeoPackage)"),
        Artifact("difference.tif", "image/tiff; application=geotiff; profile=cloud-optimized", "Height change (m)"),
        Artifact("changed_points.laz", "application/vnd.laszip", "Core points with distance, level of detection, hull"),
    )


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that its name never holds half of it.

    Raises:
        StorageFull: If the disk is full or the folder cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        _forget(part)
        raise StorageFull(
            f"{path.name} could not be written: {error.strerror or error}.",
            remedy="Free space on the disk that holds the results, or make its folder writable, and start again.",
            details={"file": path.name, "bytes": len(content), "errno": error.errno},
        ) from error


def document_bytes(document: Mapping[str, Any]) -> bytes:
    """Return the result document as strict JSON text.

    Raises:
        ValueError: If it holds NaN or an infinity.
    """
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def hulls_geojson(analysis: Analysis, images: Sequence[str] = ()) -> bytes:
    """Return the hulls by RFC 7946: longitude and latitude (WGS 84) where the coordinate system is known.

    Without a coordinate system there is nothing to convert from; then the coordinates are the files' own,
    and the collection's member ``coordinate_system`` says so (``coordinates`` is for geometries alone).
    """
    origin = analysis.surveys.origin
    convert = _to_degrees(analysis.surveys.pre.crs)
    features = []
    for number, hull in enumerate(analysis.hulls, 1):
        shape = map_polygon(hull.polygon, origin)
        if convert is not None:
            shape = shapely.transform(shape, lambda xy: np.round(convert.transform(*xy.T), _DEGREE_DECIMALS).T)
        shape = shapely.orient_polygons(shape)
        image = images[number - 1] if images else ""
        features.append(
            {
                "type": "Feature",
                "id": hull.id,
                "geometry": json_ready(shapely.geometry.mapping(shape)),
                "properties": json_ready(_properties(number, hull, image)),
            }
        )
    named = "WGS 84 longitude, latitude" if convert is not None else "as in the input files, metres"
    collection = {"type": "FeatureCollection", "name": "hulls", "coordinate_system": named, "features": features}
    return json.dumps(collection, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def hulls_geopackage(analysis: Analysis, images: Sequence[str] = ()) -> bytes:
    """Return a GeoPackage in map coordinates with the layers ``hulls`` and ``stable_area``."""
    origin = analysis.surveys.origin
    kinds: dict[str, type] = {"number": int, "hull_id": str, "kind": str, "image": str}
    names = [*_properties(1, _EMPTY, ""), "hull_id"]
    rows = [
        [*_properties(n, hull, images[n - 1] if images else "").values(), hull.id]
        for n, hull in enumerate(analysis.hulls, 1)
    ]
    hulls = [map_polygon(hull.polygon, origin) for hull in analysis.hulls]
    stable = [map_polygon(polygon, origin) for polygon in analysis.surveys.stable.geoms]
    areas = [[float(polygon.area)] for polygon in stable]
    return geopackage(
        [
            Layer("hulls", {name: kinds.get(name, float) for name in names}, rows, hulls),
            Layer("stable_area", {"area": float}, areas, stable),
        ],
        _flat(analysis.surveys.pre.crs),
    )


def difference_geotiff(analysis: Analysis) -> bytes:
    """Return the height change as a cloud-optimised GeoTIFF: float32 metres, NaN where nothing was seen."""
    difference, origin = analysis.difference, analysis.surveys.origin
    raster = difference.raster
    north = raster.y0 + origin[1] + raster.rows * raster.cell
    profile = {
        "driver": "COG", "width": raster.cols, "height": raster.rows, "count": 1, "dtype": "float32",
        "nodata": np.nan, "crs": _raster_crs(analysis.surveys.pre.crs),
        "transform": Affine(raster.cell, 0.0, raster.x0 + origin[0], 0.0, -raster.cell, north),
        "compress": "deflate", "predictor": "yes", "blocksize": 512, "overview_resampling": "average",
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**profile) as target:
            target.write(difference.change[::-1].astype(np.float32), 1)
            target.set_band_description(1, "height change, later minus earlier")
            target.units = ("m",)
            target.update_tags(
                TIFFTAG_IMAGEDESCRIPTION="Height change in metres (later minus earlier), stable-ground bias removed",
                LOD95=f"{analysis.errors.lod95:.6g}",
                SIGMA=f"{analysis.errors.sigma:.6g}",
                BIAS_REMOVED=f"{analysis.errors.bias:.6g}",
            )
        content: bytes = memory.read()
    return content


def core_points_laz(analysis: Analysis) -> bytes:
    """Return the core points in map coordinates with ``distance``, ``lod95`` (m) and ``hull`` (0 = none)."""
    core, origin = analysis.core, analysis.surveys.origin
    header = laspy.LasHeader(version="1.4", point_format=6)
    header.generating_software = "Volcal"
    header.add_extra_dims(
        [
            laspy.ExtraBytesParams("distance", np.float32, "M3C2 distance, m"),
            laspy.ExtraBytesParams("lod95", np.float32, "detection limit 95 %, m"),
            laspy.ExtraBytesParams("hull", np.int32, "hull number, 0 = none"),
        ]
    )
    points = core.points + origin
    header.scales = np.full(3, 0.0001)
    header.offsets = np.floor(points.min(axis=0)) if len(points) else np.floor(origin)
    wkt = _wkt(analysis.surveys.pre.crs)
    if wkt is not None:
        header.vlrs.append(WktCoordinateSystemVlr(wkt))
        header.global_encoding.wkt = True
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = points.T
    cloud.distance, cloud.lod95, cloud.hull = core.distance, core.lod95, core.hull
    buffer = io.BytesIO()
    cloud.write(buffer, do_compress=True)
    return buffer.getvalue()


def _properties(number: int, hull: Hull, image: str) -> dict[str, Any]:
    properties: dict[str, Any] = {"number": number, "kind": hull.kind, "image": image}
    for name in _NUMBERS:
        properties[name] = round(float(getattr(hull, name)), 6) + 0.0
    for name in _INTERVALS:
        low, high = getattr(hull, name)
        properties[f"{name}_low"], properties[f"{name}_high"] = round(float(low), 6), round(float(high), 6)
    return properties


_EMPTY = Hull(
    "", 0.0, "unknown", 0.0, 0.0, 0.0, 0.0, (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), 0.0, 0.0, 0.0, (0.0, 0.0),
    shapely.MultiPolygon(),
)  # fmt: skip


def _flat(crs: str | None) -> CRS | None:
    """Return the horizontal part; a height system would say more than polygons hold."""
    if not crs:
        return None
    try:
        flat = CRS.from_user_input(crs).to_2d()
        flat.to_wkt("WKT1_GDAL")
    except CRSError:
        return None
    return flat


def _wkt(crs: str | None) -> str | None:
    flat = _flat(crs)
    return None if flat is None else flat.to_wkt("WKT1_GDAL")


def _raster_crs(crs: str | None) -> Any:
    wkt = _wkt(crs)
    try:
        return rasterio.crs.CRS.from_wkt(wkt) if wkt else None
    except RasterCRSError:
        return None


def _to_degrees(crs: str | None) -> Transformer | None:
    if not crs:
        return None
    try:
        return Transformer.from_crs(CRS.from_user_input(crs).to_2d(), "EPSG:4326", always_xy=True)
    except (CRSError, ProjError):
        return None


def _forget(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # the first failure is the one to tell
        return
