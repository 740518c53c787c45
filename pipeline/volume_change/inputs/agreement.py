"""Do the two surveys and the stable area speak of the same place, in which system and in which unit?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RegistrationFailed
from pipeline.formats import crs
from pipeline.formats.source import Source
from pipeline.volume_change.types import Notice

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Place:
    """What is known of a survey before it is read.

    Args:
        source: The file.
        system: The coordinate system it names, or None.
        anchor: A place inside it, file units, shape (3,).
    """

    source: Source
    system: crs.System | None
    anchor: Array


@dataclass(frozen=True, slots=True)
class Agreement:
    """How both files become metres of one system.

    Args:
        system: The metric system as ``EPSG:n`` or WKT; None if nobody names one.
        shared: The system the shapefile is held against; None if nobody names one.
        pre: Metres per file unit of the reference, x, y, z; ``post`` alike.
        unit: The reference's length unit.
        notices: What was assumed or converted.
    """

    system: str | None
    shared: crs.System | None
    pre: Array
    post: Array
    unit: str
    notices: tuple[Notice, ...]


def agree(pre: Place, post: Place, stable: crs.System | None) -> Agreement:
    """Decide on one metric system for both surveys.

    Args:
        pre: The reference.
        post: The later survey.
        stable: The system that the shapefile's .prj names; used if neither survey names one.

    Raises:
        InputInvalid: If a survey is in degrees.
        RegistrationFailed: If the surveys name different systems.
    """
    notices: list[Notice] = []
    systems = [_usable(place, notices) for place in (pre, post)]
    before, after = systems
    if before is None and after is None:
        systems, assumed = _adopted(stable)
        notices.append(assumed)
    elif before is None or after is None:
        silent, other = (pre, after) if before is None else (post, before)
        systems = [other, other]
        notices.append(Notice("CRS_ASSUMED", f"{silent.source} names no coordinate system; it is taken to be in that "
                              f"of the other survey, {other}."))  # fmt: skip
    else:
        notices.extend(_compare(pre, before, post, after))
    first = next((system for system in systems if system is not None and system.metric is not None), None)
    scales = [np.ones(3) if system is None else np.array(system.scale) for system in systems]
    for place, scale in zip((pre, post), scales, strict=True):
        notices.extend(_converted(place, scale))
    text = first.text if first is not None else None
    unit = crs.unit_name(float(scales[0][0]))
    return Agreement(text, first or systems[0], scales[0], scales[1], unit, tuple(notices))


def _usable(place: Place, notices: list[Notice]) -> crs.System | None:
    """Return the survey's system unless it cannot be true."""
    system = place.system
    if system is None or not system.in_degrees:
        return system
    if system.horizontal is not None and system.horizontal.is_geocentric:
        raise place.source.invalid(
            f"is in geocentric coordinates, {system}, in which up has no direction",
            "Reproject it to the UTM zone of the site (CloudCompare, QGIS or `pdal translate` can).",
        )
    if crs.are_angles(list(place.anchor), list(place.anchor)):
        raise degrees(place, f"is in degrees, {system}")
    notices.append(Notice("CRS_ASSUMED", f"{place.source} says that it is in degrees, {system}, but its coordinates "
                          "are not; they are taken as metres of an unnamed system."))  # fmt: skip
    return None


def degrees(place: Place, reason: str) -> Exception:
    """Return the refusal of a survey in degrees, naming the UTM zone that it should be in."""
    utm = crs.utm_name(float(place.anchor[0]), float(place.anchor[1]))
    return place.source.invalid(
        f"{reason}; volumes need metres",
        f"Reproject both surveys to metres, for example to {utm} (CloudCompare, QGIS or `pdal translate` can).",
        suggested=utm.split()[0],
    )


def _adopted(stable: crs.System | None) -> tuple[list[crs.System | None], Notice]:
    if stable is not None and stable.metric is not None:
        return [stable, stable], Notice(
            "CRS_ASSUMED",
            f"Neither survey names a coordinate system; both are taken to be in that of the shapefile, {stable}.",
        )
    return [None, None], Notice(
        "CRS_UNKNOWN", "Neither survey names a coordinate system; their coordinates are taken as metres."
    )


def _compare(pre: Place, before: crs.System, post: Place, after: crs.System) -> list[Notice]:
    notices = []
    if before.metric is not None and after.metric is not None:
        x, y, _ = pre.anchor * np.array(before.scale)
        away = crs.offset_between(before.metric, after.metric, float(x), float(y))
        if away > crs.SAME_PLACE_M:
            raise RegistrationFailed(
                f"The surveys are in different coordinate systems: {pre.source} in {before}, {post.source} in {after}.",
                remedy="Reproject one of them to the system of the other (CloudCompare, QGIS or `pdal translate` can).",
                details={"pre_crs": str(before), "post_crs": str(after)},
            )
        if away > 0:
            notices.append(Notice("CRS_DIFFERS", f"{pre.source} is in {before} and {post.source} in {after}, which are "
                                  f"{away:.1f} m apart here; the registration has to make up for it."))  # fmt: skip
    elif before.metric is not None or after.metric is not None:
        notices.append(Notice("CRS_ASSUMED", "One survey names only its unit; both are taken to be in "
                              f"{before if before.metric is not None else after}."))  # fmt: skip
    if before.vertical and after.vertical and before.vertical != after.vertical:
        message = f"Heights of {pre.source} are {before.vertical}, those of {post.source} {after.vertical}"
        notices.append(Notice("VERTICAL_DATUM_DIFFERS", f"{message}; a constant offset is removed, a slope is not."))
    return notices


def _converted(place: Place, scale: Array) -> list[Notice]:
    flat, up = crs.unit_name(float(scale[0])), crs.unit_name(float(scale[2]))
    if flat == up == "metre":
        return []
    what = f"from {flat}" if flat == up else f"from {flat} (positions) and {up} (heights)"
    return [Notice("UNITS_CONVERTED", f"{place.source} was converted {what} to metres.")]
