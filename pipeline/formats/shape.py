"""Polygons of a shapefile, read from .shp and .shx alone, mended where they are not valid."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from pipeline.formats.inspect_shape import inspect_shp, inspect_shx, pair_records, polygon_records
from pipeline.formats.raw import Array
from pipeline.formats.source import Source

_LEAST_AREA = 1e-6  # m²


@dataclass(frozen=True, slots=True)
class Area:
    """The union of all polygons.

    Args:
        polygons: Valid, in the target's coordinates; may be empty.
        mended: Records whose rings crossed or touched themselves.
        dropped: Rings without area or with unusable coordinates.
    """

    polygons: MultiPolygon
    mended: int
    dropped: int


def read_rings(shp: Source, shx: Source | None) -> list[list[Array]]:
    """Return the rings of each polygon record in file coordinates, shape (n, 2) each.

    With an index, the records are found by it, as the format wants; without, one after the other.

    Raises:
        InputInvalid: If either file is damaged, they do not belong together, or there is no polygon.
        InputTooLarge: If there is more than stable ground can need.
    """
    records = inspect_shp(shp)
    data = shp.read(0, shp.size)
    if shx is not None:
        entries = inspect_shx(shx)
        pair_records(shx, entries, data)
        records = polygon_records(shp, data, iter(entries))
    shapes = []
    for record in records:
        starts = np.frombuffer(data, "<i4", record.parts, record.at + 44)
        vertices = np.frombuffer(data, "<f8", 2 * record.vertices, record.at + 44 + 4 * record.parts)
        shapes.append(np.split(vertices.reshape(-1, 2).astype(np.float64), starts[1:]))
    return shapes


def build_area(shapes: list[list[Array]], to_local: Callable[[Array], Array]) -> Area:
    """Return the union of the records' polygons.

    Inside a record the even-odd rule tells holes from parts, whatever way round the rings were drawn.

    Args:
        shapes: What :func:`read_rings` gave.
        to_local: Turns file coordinates, shape (n, 2), into local metres.
    """
    areas: list[Polygon | MultiPolygon] = []
    mended = dropped = 0
    for rings in shapes:
        local = [to_local(ring) for ring in rings]
        usable = [ring for ring in local if _encloses(ring)]
        dropped += len(local) - len(usable)
        if not usable:
            continue
        parts = [Polygon(ring) for ring in usable]
        whole: BaseGeometry = _nested(parts)
        if not whole.is_valid:
            mended += 1
            whole = shapely.make_valid(MultiPolygon(parts))
        areas.extend(part for part in shapely.get_parts(shapely.get_parts(whole)) if isinstance(part, Polygon))
    union = shapely.union_all(areas)
    polygons = [part for part in shapely.get_parts(union) if isinstance(part, Polygon) and part.area > _LEAST_AREA]
    return Area(MultiPolygon(polygons), mended, dropped)


def _nested(parts: list[Polygon]) -> Polygon | MultiPolygon:
    """Return rings as shells and holes by how deep they lie in each other; not valid if any ring is not."""
    if len(parts) == 1 or not all(part.is_valid for part in parts):
        return parts[0] if len(parts) == 1 else MultiPolygon(parts)
    outer, inner = shapely.STRtree(parts).query(parts, predicate="contains")
    outer, inner = outer[outer != inner], inner[outer != inner]
    depth = np.bincount(inner, minlength=len(parts))
    holes: dict[int, list[int]] = {int(i): [] for i in np.flatnonzero(depth % 2 == 0)}
    direct = (depth[inner] % 2 == 1) & (depth[outer] == depth[inner] - 1)
    for shell, hole in zip(outer[direct], inner[direct], strict=True):
        holes[int(shell)].append(int(hole))
    return MultiPolygon(
        [Polygon(parts[i].exterior, [parts[j].exterior for j in inside]) for i, inside in holes.items()]
    )


def bounds_of(shapes: list[list[Array]]) -> tuple[Array, Array] | None:
    """Return the least and greatest finite coordinates of all rings; None if there are none."""
    rings = [ring for rings in shapes for ring in rings]
    vertices = np.concatenate(rings) if rings else np.empty((0, 2))
    vertices = vertices[np.isfinite(vertices).all(axis=1)]
    return (vertices.min(axis=0), vertices.max(axis=0)) if len(vertices) else None


def _encloses(ring: Array) -> bool:
    if len(ring) < 3 or not np.isfinite(ring).all() or np.abs(ring).max() > 1e9:
        return False
    return bool((np.ptp(ring, axis=0) > 1e-3).all()) and len(np.unique(ring, axis=0)) >= 3
