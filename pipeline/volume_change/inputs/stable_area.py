"""Where is the ground that did not move, in the local coordinates of the surveys?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from shapely import MultiPolygon, box, union_all
from shapely.geometry.base import BaseGeometry

from pipeline.clouds import Cloud
from pipeline.errors import StableAreaEmpty
from pipeline.formats import crs
from pipeline.formats.shape import Area, bounds_of, build_area
from pipeline.formats.source import Source
from pipeline.volume_change.inputs.agreement import Agreement
from pipeline.volume_change.types import Notice

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ground:
    """The stable polygons as they came.

    Args:
        source: The .shp.
        rings: Rings of each record, file coordinates, shape (n, 2) each.
        system: What the .prj names, or None.
    """

    source: Source
    rings: list[list[Array]]
    system: crs.System | None


def stable_area(ground: Ground, agreed: Agreement, clouds: Sequence[Cloud], notices: list[Notice]) -> MultiPolygon:
    """Return the union of the stable polygons, local metres, valid and not empty.

    Args:
        ground: The polygons as they came.
        agreed: The system of the surveys.
        clouds: Both surveys.
        notices: Takes what was mended or assumed.

    Raises:
        InputInvalid: If no polygon has an area, or they are in degrees and the surveys in nobody knows what.
        StableAreaEmpty: If they lie outside both surveys.
    """
    origin = clouds[0].origin[:2]
    corners = [cloud.extent for cloud in clouds]
    extents = union_all([box(*low[:2], *high[:2]) for low, high in corners])
    area = build_area(ground.source, ground.rings, lambda ring: _in_metres(ground, agreed, ring, notices) - origin)
    target = None if agreed.shared is None else agreed.shared.metric
    if ground.system is None and target is not None and not area.polygons.intersects(extents) and _angles(ground):
        found = build_area(ground.source, ground.rings, lambda ring: crs.from_degrees(target, ring) - origin)
        if found.polygons.intersects(extents):
            area = found
            _note(notices, "CRS_ASSUMED", f"{ground.source} is in degrees and names no system; WGS 84 was assumed.")
    if area.polygons.is_empty:
        raise ground.source.invalid("holds no polygon with an area", "Draw polygons around ground that did not move.")
    if not area.polygons.intersects(extents):
        raise _outside(area, extents)
    _report(ground, area, notices)
    return area.polygons


def _in_metres(ground: Ground, agreed: Agreement, ring: Array, notices: list[Notice]) -> Array:
    """Return one ring in the metric system of the surveys."""
    system, shared = ground.system, agreed.shared
    if system is None or system.horizontal is None:
        return ring * agreed.pre[:2]
    scale: Array = np.array(system.scale[:2])
    if shared is None or shared.metric is None:
        if system.in_degrees:
            raise ground.source.invalid(
                f"is in degrees, {system}, while the surveys name no coordinate system",
                "Reproject the polygons to the system of the surveys.",
            )
        return ring * scale
    if system.metric is not None:
        metres: Array = ring * scale
        if crs.offset_between(system.metric, shared.metric, *metres[0].tolist()) == 0:
            return metres
    _note(notices, "STABLE_REPROJECTED", f"The stable polygons were reprojected from {system} to {agreed.system}.")
    return crs.reproject(system.horizontal, shared.metric, ring)


def _angles(ground: Ground) -> bool:
    bounds = bounds_of(ground.rings)
    return bounds is not None and crs.are_angles(bounds[0].tolist(), bounds[1].tolist())


def _outside(area: Area, extents: BaseGeometry) -> StableAreaEmpty:
    there, here = area.polygons.centroid, extents.centroid
    away = float(area.polygons.distance(extents))
    wind = crs.bearing_text(there.x - here.x, there.y - here.y)
    return StableAreaEmpty(
        f"The stable polygons lie {crs.distance_text(away)} {wind} of the surveys; none is inside.",
        label="shp",
        remedy="Are they in the same coordinate system? Upload the .prj too, or draw them on the surveys.",
        details={"distance": round(away, 1)},
    )


def _report(ground: Ground, area: Area, notices: list[Notice]) -> None:
    if area.mended:
        _note(notices, "POLYGONS_MENDED", f"{ground.source}: {area.mended} invalid polygons were mended.")
    if area.dropped:
        _note(notices, "POLYGONS_DROPPED", f"{ground.source}: {area.dropped} rings without area were left out.")


def _note(notices: list[Notice], code: str, message: str) -> None:
    notice = Notice(code, message)
    if notice not in notices:
        notices.append(notice)
