"""The result document: one analysis as strict JSON."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError
from shapely.affinity import translate
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from pipeline.clouds import Cloud
from pipeline.volume_change.output.schema import SCHEMA
from pipeline.volume_change.types import Analysis, Array, ErrorModel, Hull, Interval, Notice, Registration, Totals

_DECIMALS = 6  # a millilitre, a micrometre: below what any survey can say, so rounding changes no meaning
_COORDINATE_DECIMALS = 4


def document(
    analysis: Analysis,
    *,
    params: Mapping[str, Any],
    timings: Mapping[str, float],
    peak_memory_mb: float,
    versions: Mapping[str, str],
    images: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the result document of ``docs/schema/volume_change-1.json``.

    Args:
        analysis: The finished analysis, local metres.
        params: The options the run was given, JSON-ready.
        timings: Seconds by stage.
        peak_memory_mb: Highest memory in use, MiB.
        versions: Version by package.
        images: Path of each hull's picture below the result folder, in the hulls' order; empty = none.

    Returns:
        JSON-ready: no NaN, no infinity; no null inside ``hulls``.

    Raises:
        ValueError: If a hull holds a number that is not finite.
    """
    surveys = analysis.surveys
    origin = surveys.origin
    return {
        "schema": SCHEMA,
        "crs": crs_name(surveys.pre.crs),
        "unit": "metre",
        "input_unit": surveys.unit,
        "hulls": [_hull(hull, origin, images[n] if n < len(images) else "") for n, hull in enumerate(analysis.hulls)],
        "totals": _totals(analysis.totals),
        "site": _totals(analysis.site),
        "registration": _registration(analysis.registration, origin, site_centre(analysis)),
        "stable_area": _stable(analysis.errors),
        "surveys": {
            "pre": _survey(surveys.pre, analysis.difference.before, analysis.difference.raster.cell),
            "post": _survey(surveys.post, analysis.difference.after, analysis.difference.raster.cell),
        },
        "grid": float(f"{analysis.difference.raster.cell:.9g}"),
        "timings": {stage: round(max(float(seconds), 0.0), 3) for stage, seconds in timings.items()},
        "peak_memory_mb": round(float(peak_memory_mb), 1),
        "parameters": json_ready(params),
        "versions": dict(versions),
        "warnings": [{"code": w.code, "message": w.message} for w in all_warnings(analysis)],
    }


def all_warnings(analysis: Analysis) -> tuple[Notice, ...]:
    """Return every warning once, those of the whole analysis first."""
    notices = (*analysis.warnings, *analysis.surveys.warnings, *analysis.registration.warnings)
    return tuple(dict.fromkeys(notices))


def image_names(hulls: Iterable[Hull], *, images: bool, max_hull_images: int) -> tuple[str, ...]:
    """Return each hull's picture below the result folder; the overview stands in beyond the limit.

    >>> image_names([], images=True, max_hull_images=3)
    ()
    """
    if not images:
        return ()
    return tuple(
        f"hulls/{re.sub(r'[^A-Za-z0-9._-]', '-', hull.id)}.png" if n < max_hull_images else "overview.png"
        for n, hull in enumerate(hulls)
    )


def crs_name(crs: str | None) -> str | None:
    """Return ``EPSG:n`` where a coordinate system has such a number, else what was given.

    >>> crs_name("epsg:26917"), crs_name(None)
    ('EPSG:26917', None)
    """
    if not crs:
        return None
    try:
        code = CRS.from_user_input(crs).to_epsg()
    except CRSError:
        return crs
    return f"EPSG:{code}" if code else crs


def site_centre(analysis: Analysis) -> Array:
    """Return the centre of the grid at the median ground height, local metres, shape (3,)."""
    raster = analysis.difference.raster
    seen = analysis.difference.before[np.isfinite(analysis.difference.before)]
    return np.array(
        [
            raster.x0 + raster.cols * raster.cell / 2,
            raster.y0 + raster.rows * raster.cell / 2,
            float(np.median(seen)) if seen.size else 0.0,
        ]
    )


def map_matrix(local: Array, origin: Array) -> Array:
    """Return a rigid motion in map coordinates from the same motion in local ones.

    Args:
        local: 4 × 4, metres relative to ``origin``.
        origin: Map coordinates of the local zero, shape (3,).

    >>> turn = np.eye(4); turn[:2, :2] = [[0, -1], [1, 0]]
    >>> (map_matrix(turn, np.array([10.0, 0, 0])) @ [11, 0, 0, 1]).tolist()
    [10.0, 1.0, 0.0, 1.0]
    """
    matrix = np.array(local, dtype=np.float64)
    # (I − R) o rather than o − R o: the origin is millions of metres away and must cancel exactly
    matrix[:3, 3] = local[:3, 3] + (np.eye(3) - local[:3, :3]) @ origin
    return matrix


def map_polygon(polygon: BaseGeometry, origin: Array) -> BaseGeometry:
    """Return a local polygon in map coordinates, to a tenth of a millimetre where that keeps it valid."""
    moved = translate(polygon, float(origin[0]), float(origin[1]))
    if isinstance(moved, shapely.MultiPolygon) and len(moved.geoms) == 1:
        moved = moved.geoms[0]
    rounded = shapely.transform(moved, lambda xy: np.round(xy, _COORDINATE_DECIMALS))
    return rounded if rounded.is_valid else moved


def json_ready(value: Any) -> Any:
    """Return plain JSON values; what is not finite becomes None.

    >>> json_ready({"a": np.float64(2.5), "b": (np.nan, np.int64(3))})
    {'a': 2.5, 'b': [None, 3]}
    """
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return json_ready(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [json_ready(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _hull(hull: Hull, origin: Array, image: str) -> dict[str, Any]:
    east, north = hull.centroid[0] + origin[0], hull.centroid[1] + origin[1]
    result = {
        "id": hull.id,
        "score": _number(hull.score),
        **_totals(hull),
        "mean_change": _number(hull.mean_change),
        "max_change": _number(hull.max_change),
        "coverage": _number(hull.coverage),
        "kind": hull.kind,
        "centroid": [round(float(east), _COORDINATE_DECIMALS), round(float(north), _COORDINATE_DECIMALS)],
        "polygon": _plain(mapping(map_polygon(hull.polygon, origin))),
        "image": image,
    }
    if not _all_finite(result):
        raise ValueError(f"hull {hull.id} holds a number that is not finite: {result}")
    return result


def _totals(totals: Totals | Hull) -> dict[str, Any]:
    return {
        "area": _number(totals.area),
        "cut_volume": _number(totals.cut_volume),
        "fill_volume": _number(totals.fill_volume),
        "net_volume": _number(totals.net_volume),
        "net_volume_ci95": _interval(totals.net_volume_ci95),
        "cut_volume_ci95": _interval(totals.cut_volume_ci95),
        "fill_volume_ci95": _interval(totals.fill_volume_ci95),
    }


def _registration(found: Registration, origin: Array, centre: Array) -> dict[str, Any]:
    rotation = found.matrix[:3, :3]
    shift = rotation @ centre + found.matrix[:3, 3] - centre
    # the chord form keeps its digits at the tiny angles that a survey needs; arccos does not
    chord = float(np.linalg.norm(rotation - np.eye(3))) / (2 * math.sqrt(2))
    return {
        "matrix": [[float(v) for v in row] for row in map_matrix(found.matrix, origin)],
        "method": found.method,
        "converged": bool(found.converged),
        "overlap": json_ready(_number(found.overlap)),
        "rmse": json_ready(_number(found.rmse)),
        "translation": [_number(v) for v in shift],
        "rotation_deg": round(math.degrees(2 * math.asin(min(chord, 1.0))), 9),
        "inliers": json_ready(_number(found.inliers)),
        "dof": list(found.dof),
    }


def _stable(errors: ErrorModel) -> dict[str, Any]:
    figures = {
        "points": int(errors.points),
        "area": _number(errors.area),
        "bias": _number(errors.bias),
        "sigma": _number(errors.sigma),
        "lod95": _number(errors.lod95),
        "correlation_length": _number(errors.correlation_length),
        "sill_long": float(f"{errors.sill_long:.6g}"),
        "nugget": float(f"{errors.nugget:.6g}"),
    }
    return {**json_ready(errors.extra), **figures}


def _survey(cloud: Cloud, seen: Array, cell: float) -> dict[str, Any]:
    ground = float(np.isfinite(seen).sum()) * cell * cell
    return {
        "name": cloud.name,
        "points": len(cloud),
        "density": float(f"{len(cloud) / ground:.4g}") if ground else 0.0,
        "crs": crs_name(cloud.crs),
    }


def _number(value: float) -> float:
    return round(float(value), _DECIMALS) + 0.0  # + 0.0 turns −0.0 into 0.0


def _interval(interval: Interval) -> list[float]:
    return [_number(interval[0]), _number(interval[1])]


def _plain(geometry: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json_ready(geometry)
    return plain


def _all_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_all_finite(item) for item in value.values())
    if isinstance(value, list):
        return all(_all_finite(item) for item in value)
    return value is not None and (not isinstance(value, float) or math.isfinite(value))
