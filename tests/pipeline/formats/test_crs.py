"""Coordinate systems: the same one under two names, feet, degrees, and what GeoTIFF keys say."""

import io
import struct

import numpy as np
import pytest
from pyproj import CRS

from pipeline.formats import crs
from pipeline.formats.inspect_las import inspect_las
from pipeline.formats.source import Source
from tests.pipeline.formats import files

US_FOOT = 1200 / 3937  # metres, by definition of 1893


def geokeys(**values: int) -> tuple[tuple[int, bytes], ...]:
    """Return a GeoTIFF key directory, GeoTIFF 1.1 section 7: key, 0, 1, value."""
    keys = {"projected": 3072, "geographic": 2048, "linear": 3076, "vertical": 4096, "vertical_unit": 4099}
    entries = b"".join(struct.pack("<4H", keys[name], 0, 1, value) for name, value in values.items())
    return ((34735, struct.pack("<4H", 1, 1, 0, len(values)) + entries),)


@pytest.mark.parametrize("geokeys_only", [False, True])
@pytest.mark.parametrize("point_format", [3, 6])
def test_a_las_file_names_its_system_in_wkt_or_in_keys(point_format: int, geokeys_only: bool) -> None:
    content = files.las_bytes(
        files.terrain(), point_format=point_format, crs=CRS.from_epsg(26917), geokeys=geokeys_only
    )
    facts = inspect_las(Source("pre", io.BytesIO(content), len(content)))
    system = crs.from_las(facts.projection)
    assert system is not None
    assert (system.text, system.scale, str(system)) == (
        "EPSG:26917", (1.0, 1.0, 1.0), "EPSG:26917 (NAD83 / UTM zone 17N)"
    )  # fmt: skip


def test_feet_have_a_metric_twin_of_the_same_projection() -> None:
    system = crs.from_crs(CRS.from_user_input("EPSG:2263+6360"))  # Long Island ftUS, NAVD88 ftUS
    assert system is not None
    assert system.scale == pytest.approx((US_FOOT, US_FOOT, US_FOOT), rel=1e-12)
    assert (system.text, system.unit, system.vertical) == ("EPSG:32118", "US survey foot", "NAVD88 height (ftUS)")


def test_horizontal_feet_with_metric_heights_stay_apart() -> None:
    system = crs.from_crs(CRS.from_user_input("EPSG:2263+5703"))  # NAVD88 in metres
    assert system is not None
    assert system.scale == pytest.approx((US_FOOT, US_FOOT, 1.0), rel=1e-12)


def test_a_projection_in_feet_without_a_registered_twin_still_has_one() -> None:
    wkt = CRS.from_proj4("+proj=tmerc +lat_0=43 +lon_0=-79.5 +ellps=GRS80 +units=ft").to_wkt()
    system = crs.from_wkt(wkt)
    assert system is not None
    assert system.metric is not None
    assert system.scale[0] == pytest.approx(0.3048)
    assert {axis.unit_name for axis in system.metric.axis_info} == {"metre"}
    assert CRS.from_user_input(system.text) == system.metric


def test_two_spellings_of_one_system_are_no_distance_apart() -> None:
    here = CRS.from_epsg(26917)
    esri = CRS.from_wkt(here.to_wkt("WKT1_ESRI"))
    assert crs.offset_between(here, esri, 634_000, 4_831_000) == 0
    assert crs.offset_between(here, here, 634_000, 4_831_000) == 0


def test_another_zone_is_far_and_another_datum_near() -> None:
    here = CRS.from_epsg(26917)
    assert crs.offset_between(here, CRS.from_epsg(26918), 634_000, 4_831_000) > 100_000
    assert crs.offset_between(here, CRS.from_epsg(32617), 634_000, 4_831_000) < crs.SAME_PLACE_M


def test_keys_give_units_even_without_a_known_system() -> None:
    system = crs.from_las(geokeys(projected=32767, linear=9003))
    assert system is not None
    assert (system.text, system.unit) == (None, "US survey foot")
    system = crs.from_las(geokeys(projected=26917, vertical_unit=9002))
    assert system is not None
    assert system.scale == (1.0, 1.0, 0.3048)
    system = crs.from_las(geokeys(projected=26917, vertical=6360))
    assert system is not None
    assert system.scale[2] == pytest.approx(US_FOOT)


@pytest.mark.parametrize("data", [b"", b"\1\2\3", bytes(8), b"\xff" * 40, b'PROJCS["broken"'])
def test_damaged_records_name_no_system(data: bytes) -> None:
    assert crs.from_las(((2112, data), (34735, data))) is None


def test_degrees_are_known_as_such() -> None:
    for code in (4326, 4979, 4978):
        system = crs.from_crs(CRS.from_epsg(code))
        assert system is not None
        assert system.in_degrees
        assert system.text is None
    assert crs.from_crs(CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')) is None


def test_reprojection_agrees_with_the_definition_of_utm() -> None:
    east, north = crs.from_degrees(CRS.from_epsg(32617), np.array([[-81.0, 0.0]]))[0]
    assert (east, north) == pytest.approx((500_000.0, 0.0), abs=1e-6)  # the central meridian of zone 17 on the equator
