"""Which coordinate system is this, in what unit, and is it the other file's?

Heights and positions are worked on in metres, so each system is kept with the factors that make metres of it
and with its metric twin: the same projection with metres as its unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from struct import iter_unpack

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

Array = NDArray[np.float64]
US_FOOT, FOOT = 1200 / 3937, 0.3048  # metres
_UNIT_NAMES = {1.0: "metre", US_FOOT: "US survey foot", FOOT: "foot"}
_GEOTIFF_UNITS = {9001: 1.0, 9002: FOOT, 9003: US_FOOT}  # EPSG unit codes in GeoTIFF keys
_WKT_RECORD, _GEOKEY_RECORD = 2112, 34735  # LAS 1.4 R15, section 3
_MODEL, _GEOGRAPHIC, _PROJECTED, _LINEAR_UNITS, _VERTICAL, _VERTICAL_UNITS = 1024, 2048, 3072, 3076, 4096, 4099
_USER_DEFINED = 32767
SAME_PLACE_M = 5.0
_WGS84 = CRS.from_epsg(4326)


@dataclass(frozen=True, slots=True)
class System:
    """A coordinate system and its units.

    Args:
        horizontal: The horizontal system; None if only the units are known.
        metric: ``horizontal`` with metres as its unit; None for degrees, or if unknown.
        scale: Metres per unit for x, y and z.
        vertical: Name of the vertical system; empty if none is named.
    """

    horizontal: CRS | None
    metric: CRS | None
    scale: tuple[float, float, float]
    vertical: str = ""

    @property
    def in_degrees(self) -> bool:
        """Whether positions are angles (or geocentric), so that no area can be taken from them."""
        return self.horizontal is not None and not self.horizontal.is_projected

    @property
    def unit(self) -> str:
        """The horizontal unit, in words."""
        return unit_name(self.scale[0])

    @property
    def text(self) -> str | None:
        """The metric system as ``EPSG:n`` or WKT; None if unknown."""
        if self.metric is None:
            return None
        code = self.metric.to_epsg()
        return f"EPSG:{code}" if code else self.metric.to_wkt()

    def __str__(self) -> str:
        if self.horizontal is None:
            return f"an unnamed system in units of the {self.unit}"
        code = self.horizontal.to_epsg()
        return f"EPSG:{code} ({self.horizontal.name})" if code else str(self.horizontal.name)


def unit_name(metres: float) -> str:
    """Return the name of a length unit.

    >>> unit_name(0.3048), unit_name(1200 / 3937), unit_name(1.0)
    ('foot', 'US survey foot', 'metre')
    """
    return next((name for size, name in _UNIT_NAMES.items() if abs(size / metres - 1) < 1e-9), f"{metres:.6g} m")


@lru_cache(maxsize=16)  # both surveys of a pair mostly carry the same text
def from_wkt(text: str) -> System | None:
    """Return the system that a WKT describes; None if it cannot be understood."""
    try:
        return from_crs(CRS.from_wkt(text.strip("\0 \t\r\n")))
    except (CRSError, ValueError):
        return None


def from_crs(crs: CRS) -> System | None:
    """Split a system into its horizontal part, its vertical part and their units; None for local ones."""
    whole = _unbound(crs)
    parts = [_unbound(part) for part in whole.sub_crs_list] or [whole]
    horizontal = parts[0]
    if not (horizontal.is_projected or horizontal.is_geographic or horizontal.is_geocentric):
        return None
    vertical = next((part for part in parts[1:] if part.is_vertical), None)
    if not horizontal.is_projected:
        return System(horizontal, None, (1.0, 1.0, 1.0), vertical.name if vertical else "")
    axes = [float(axis.unit_conversion_factor) for axis in horizontal.axis_info]
    z = float(vertical.axis_info[0].unit_conversion_factor) if vertical else axes[2] if len(axes) > 2 else axes[0]
    return System(horizontal, _metric(horizontal), (axes[0], axes[1], z), vertical.name if vertical else "")


def _unbound(crs: CRS) -> CRS:
    """Return a system without the datum shift that some WKT ties to it."""
    return crs.source_crs if crs.is_bound and crs.source_crs is not None else crs


def from_las(projection: Sequence[tuple[int, bytes]]) -> System | None:
    """Return the system that the records of a LAS file name: WKT first, else GeoTIFF keys.

    Args:
        projection: Number and content of each ``LASF_Projection`` record.
    """
    for number, data in projection:
        if number == _WKT_RECORD and (found := from_wkt(data.decode("utf-8", errors="replace"))) is not None:
            return found
    for number, data in projection:
        if number == _GEOKEY_RECORD and (found := _from_geokeys(data)) is not None:
            return found
    return None


def _from_geokeys(data: bytes) -> System | None:
    entries = iter_unpack("<4H", data[8 : len(data) // 8 * 8])
    keys = {key: value for key, place, _, value in entries if place == 0}
    code = keys.get(_PROJECTED) or keys.get(_GEOGRAPHIC)
    linear = _GEOTIFF_UNITS.get(keys.get(_LINEAR_UNITS, 0))
    system = None
    if code and code != _USER_DEFINED:
        try:
            system = from_crs(CRS.from_epsg(code))
        except CRSError:
            system = None
    if system is None:
        if linear is None:
            return None
        system = System(None, None, (linear, linear, linear))
    z = _GEOTIFF_UNITS.get(keys.get(_VERTICAL_UNITS, 0)) or _vertical_unit(keys.get(_VERTICAL, 0)) or system.scale[2]
    return System(system.horizontal, system.metric, (*system.scale[:2], z))


def _vertical_unit(code: int) -> float | None:
    if not 1024 <= code < _USER_DEFINED:
        return None
    try:
        vertical = CRS.from_epsg(code)
    except CRSError:
        return None
    return float(vertical.axis_info[0].unit_conversion_factor) if vertical.is_vertical else None


def _metric(crs: CRS) -> CRS:
    """Return the same projection in metres, under its own EPSG code where it has one."""
    if all(abs(axis.unit_conversion_factor - 1) < 1e-12 for axis in crs.axis_info):
        return crs
    description = crs.to_json_dict()
    description.pop("id", None)
    description["name"] += " in metres"
    for axis in description["coordinate_system"]["axis"]:
        axis["unit"] = "metre"
    twin = CRS.from_json_dict(description)
    code = twin.to_epsg()
    return CRS.from_epsg(code) if code else twin


def offset_between(a: CRS, b: CRS, x: float, y: float) -> float:
    """Return how far (m) the same numbers lie apart when read in one metric system and in the other.

    Two names of one system give 0; two datums of one projection a few metres; different zones kilometres.
    Infinite where no transformation is known.
    """
    if a.equals(b, ignore_axis_order=True) or (a.to_epsg() is not None and a.to_epsg() == b.to_epsg()):
        return 0.0
    try:
        there = Transformer.from_crs(a, b, always_xy=True).transform(x, y)
    except ProjError:
        return float("inf")
    away = float(np.hypot(there[0] - x, there[1] - y))
    return away if np.isfinite(away) else float("inf")


def reproject(source: CRS, target: CRS, points: Array) -> Array:
    """Return positions, shape (n, 2), of one system in the other; not finite where they cannot be."""
    try:
        x, y = Transformer.from_crs(source, target, always_xy=True).transform(points[:, 0], points[:, 1])
    except ProjError:
        return np.full_like(points, np.nan)
    return np.column_stack([x, y])


def from_degrees(target: CRS, points: Array) -> Array:
    """Return positions that are longitude and latitude (WGS 84), shape (n, 2), in another system."""
    return reproject(_WGS84, target, points)


def are_angles(low: Sequence[float], high: Sequence[float]) -> bool:
    """Return whether x and y between these bounds can be longitude and latitude in degrees."""
    return low[0] >= -180 and high[0] <= 360 and low[1] >= -90 and high[1] <= 90


def look_like_degrees(low: Sequence[float], high: Sequence[float]) -> bool:
    """Return whether a survey with these bounds (x, y, z) is in degrees rather than in a local metric system.

    A survey is metres tall and, in degrees, a hundredth wide: taller than wide by far, as no terrain is.

    >>> look_like_degrees((-79.336, 43.626, 70.0), (-79.332, 43.630, 85.0))
    True
    >>> look_like_degrees((0.0, 0.0, 70.0), (130.0, 130.0, 75.0))
    False
    """
    width = max(high[0] - low[0], high[1] - low[1])
    return are_angles(low, high) and 0 < width < 1 and high[2] - low[2] > 5 * width


def utm_name(longitude: float, latitude: float) -> str:
    """Return the WGS 84 UTM system of a place.

    >>> utm_name(-79.3, 43.6), utm_name(151.2, -33.9)
    ('EPSG:32617 (WGS 84 / UTM zone 17N)', 'EPSG:32756 (WGS 84 / UTM zone 56S)')
    """
    zone = int(((longitude + 180) % 360) // 6) + 1
    code = (32600 if latitude >= 0 else 32700) + zone
    return f"EPSG:{code} (WGS 84 / UTM zone {zone}{'N' if latitude >= 0 else 'S'})"


def distance_text(metres: float) -> str:
    """Return a distance for people.

    >>> distance_text(140.2), distance_text(12_345.0)
    ('140 m', '12 km')
    """
    return f"{metres:,.0f} m" if metres < 2000 else f"{metres / 1000:,.0f} km"


def bearing_text(east: float, north: float) -> str:
    """Return the wind of a direction.

    >>> bearing_text(-5.0, 0.1), bearing_text(1.0, 1.0)
    ('west', 'north-east')
    """
    winds = ("east", "north-east", "north", "north-west", "west", "south-west", "south", "south-east")
    return winds[round(float(np.degrees(np.arctan2(north, east))) / 45) % 8]
