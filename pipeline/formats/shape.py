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
_MOST_CROSSINGS = 2000  # mending costs their square: 2,000 take seconds, 10,000 minutes
_MOST_CANDIDATES = 20_000_000
_BATCH_CANDIDATES = 1_000_000
_MOST_NESTED = 2_000_000  # pairs of a ring inside another, in one record
_MOST_MENDED = 1000
_ANEW = "Draw the stable ground anew, as simple polygons."


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


def build_area(shp: Source, shapes: list[list[Array]], to_local: Callable[[Array], Array]) -> Area:
    """Return the union of the records' polygons.

    Inside a record the even-odd rule tells holes from parts, whatever way round the rings were drawn.

    Args:
        shp: Names the file in refusals.
        shapes: What :func:`read_rings` gave.
        to_local: Turns file coordinates, shape (n, 2), into local metres.

    Raises:
        InputInvalid: If a record crosses itself more often than can be mended.
    """
    areas: list[Polygon] = []
    mended = dropped = 0
    for rings in shapes:
        local = [to_local(ring) for ring in rings]
        usable = {ring.tobytes(): ring for ring in local if _encloses(ring)}  # a ring drawn twice counts once
        dropped += len(local) - len(usable)
        if not usable:
            continue
        parts = [Polygon(ring) for ring in usable.values()]
        whole: BaseGeometry = _nested(shp, parts)
        if not whole.is_valid:
            mended += 1
            if mended > _MOST_MENDED:
                raise shp.invalid(f"has more than {_MOST_MENDED:,} polygons that cross themselves", _ANEW)
            if _is_tangled(parts):
                raise shp.invalid(f"has a polygon that crosses itself more than {_MOST_CROSSINGS:,} times", _ANEW)
            whole = shapely.make_valid(MultiPolygon(parts))
        areas.extend(part for part in shapely.get_parts(shapely.get_parts(whole)) if isinstance(part, Polygon))
    union = shapely.union_all(areas)
    polygons = [part for part in shapely.get_parts(union) if isinstance(part, Polygon) and part.area > _LEAST_AREA]
    return Area(MultiPolygon(polygons), mended, dropped)


def _nested(shp: Source, parts: list[Polygon]) -> Polygon | MultiPolygon:
    """Return rings as shells and holes by how deep they lie in each other; not valid if any ring is not."""
    if len(parts) == 1 or not all(part.is_valid for part in parts):
        return parts[0] if len(parts) == 1 else MultiPolygon(parts)
    tree = shapely.STRtree(parts)
    found, pairs = [], 0
    for start in range(0, len(parts), 50):
        outer, inner = tree.query(parts[start : start + 50], predicate="contains")
        found.append((outer + start, inner))
        pairs += len(inner)
        if pairs > _MOST_NESTED:
            raise shp.invalid("has a polygon of rings within rings within rings", _ANEW)
    outer, inner = (np.concatenate(side) for side in zip(*found, strict=True))
    outer, inner = outer[outer != inner], inner[outer != inner]
    depth = np.bincount(inner, minlength=len(parts))
    holes: dict[int, list[int]] = {int(i): [] for i in np.flatnonzero(depth % 2 == 0)}
    direct = (depth[inner] % 2 == 1) & (depth[outer] == depth[inner] - 1)
    for shell, hole in zip(outer[direct], inner[direct], strict=True):
        holes[int(shell)].append(int(hole))
    return MultiPolygon(
        [Polygon(parts[i].exterior, [parts[j].exterior for j in inside]) for i, inside in holes.items()]
    )


def _is_tangled(parts: list[Polygon]) -> bool:
    """Return whether the rings cross more often than can be mended; bounded work whatever they look like."""
    rings = [shapely.get_coordinates(part.exterior) for part in parts]
    ends = np.concatenate([np.stack([ring[:-1], ring[1:]], axis=1) for ring in rings])
    lines = np.asarray(shapely.linestrings(ends))
    order = np.argsort(-np.prod(np.ptp(ends, axis=1), axis=1), kind="stable")  # the longest meet the most
    tree = shapely.STRtree(lines)
    crossings = candidates = start = 0
    size = 1
    while start < len(lines):
        a, b = tree.query(lines[order[start : start + size]])
        first, second = lines[order[start + a]], lines[b]
        candidates += len(a)
        crossings += int(shapely.crosses(first, second).sum())
        if crossings > 2 * _MOST_CROSSINGS or candidates > _MOST_CANDIDATES:  # each crossing is met from both sides
            return True
        start += size
        size = max(1, min(10_000, _BATCH_CANDIDATES * size // max(1, len(a))))
    return False


def bounds_of(shapes: list[list[Array]]) -> tuple[Array, Array] | None:
    """Return the least and greatest finite coordinates of all rings; None if there are none."""
    rings = [ring for rings in shapes for ring in rings]
    vertices = np.concatenate(rings) if rings else np.empty((0, 2))
    vertices = vertices[np.isfinite(vertices).all(axis=1)]
    return (vertices.min(axis=0), vertices.max(axis=0)) if len(vertices) else None


def _encloses(ring: Array) -> bool:
    if len(ring) < 3 or not np.isfinite(ring).all() or np.abs(ring).max() > 1e9:
        return False
    spread = np.cov(ring.T)
    across = np.linalg.eigvalsh(spread)[0]  # variance across the ring's longest direction; 0 on a line
    return bool(across > 1e-12 * max(spread[0, 0] + spread[1, 1], 1e-3))
