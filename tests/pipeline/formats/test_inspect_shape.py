"""A shapefile is checked file by file, and both together, without trusting a single length in it."""

import io
import struct

import pytest
import shapefile

from pipeline.errors import InputInvalid, InputTooLarge
from pipeline.formats.inspect import check_shape_pair, inspect
from tests.pipeline.formats import files

SHP, SHX = files.stable_bytes()


def check(content: bytes, label: str = "shp") -> None:
    inspect(label, io.BytesIO(content), len(content))


def check_pair(shp: bytes, shx: bytes) -> None:
    check_shape_pair(io.BytesIO(shp), len(shp), io.BytesIO(shx), len(shx))


def patched(content: bytes, at: int, form: str, *values: int) -> bytes:
    changed = bytearray(content)
    struct.pack_into(form, changed, at, *values)
    return bytes(changed)


def test_a_whole_shapefile_is_accepted() -> None:
    assert check(SHP) is None
    assert check(SHX, "shx") is None
    assert check_pair(SHP, SHX) is None


@pytest.mark.case(16)
def test_an_index_in_the_place_of_the_shapes_is_named_and_the_other_way_round() -> None:
    with pytest.raises(InputInvalid, match=r"shp is a \.shx, not a \.shp"):
        check(SHX)
    with pytest.raises(InputInvalid, match=r"shx is a \.shp, not a \.shx"):
        check(SHP, "shx")


@pytest.mark.parametrize("kind", [shapefile.POINT, shapefile.POLYLINE])
def test_points_and_lines_are_no_stable_ground(kind: int) -> None:
    shp, _ = files.shape_bytes([[files.square(0, 0, 1)]], kind)
    with pytest.raises(InputInvalid, match=r"holds (points|lines), not polygons"):
        check(shp)


@pytest.mark.parametrize("cut", [0, 1, 50, 99, 101, 107, 111, 150, 180, 200, 236, 240, 300])
def test_a_shp_cut_anywhere_is_refused(cut: int) -> None:
    with pytest.raises(InputInvalid):
        check(SHP[:cut])


@pytest.mark.case(15)
@pytest.mark.parametrize(
    ("at", "form", "value"),
    [
        (104, ">i", 2**31 - 1), (104, ">i", -5), (104, ">i", 0), (108, "<i", 77), (144, "<i", -1),
        (148, "<i", -1), (148, "<i", 10_000), (152, "<i", 900), (152, "<i", -7), (24, ">i", 2**30),
    ],
)  # fmt: skip
def test_a_record_that_leaves_the_file_is_refused(at: int, form: str, value: int) -> None:
    with pytest.raises(InputInvalid):
        check(patched(SHP, at, form, value))


@pytest.mark.case(15)
def test_a_million_parts_are_too_many_at_once() -> None:
    parts = 1_000_000
    content = struct.pack("<i4dii", 5, 0.0, 0.0, 1.0, 1.0, parts, 4) + bytes(4 * parts + 64)
    head = bytearray(SHP[:100])
    struct.pack_into(">i", head, 24, (100 + 8 + len(content)) // 2)
    bomb = bytes(head) + struct.pack(">ii", 1, len(content) // 2) + content
    with pytest.raises(InputTooLarge, match="1,000,000 parts"):
        check(bomb)


@pytest.mark.case(15)
def test_millions_of_empty_records_are_too_many() -> None:
    record = struct.pack(">iii", 1, 2, 0)
    head = bytearray(SHP[:100])
    struct.pack_into(">i", head, 24, (100 + 12 * 3_000_000) // 2)
    bomb = bytes(head) + record * 3_000_000
    with pytest.raises(InputTooLarge, match="more than 100,000 records"):
        check(bomb)


@pytest.mark.case(15)
def test_an_index_that_points_outside_the_shapes_is_refused() -> None:
    outside = patched(SHX, 108, ">ii", 5_000, 64)
    assert check(outside, "shx") is None  # by itself it may be true
    with pytest.raises(InputInvalid, match="it lies outside") as refusal:
        check_pair(SHP, outside)
    assert refusal.value.label == "shx"


def test_an_index_of_another_shapefile_is_refused() -> None:
    other, other_index = files.shape_bytes([[files.square(0, 0, 9)]])
    with pytest.raises(InputInvalid, match="has more"):
        check_pair(SHP, other_index)
    with pytest.raises(InputInvalid, match="outside"):
        check_pair(other, SHX)


def test_an_index_that_runs_backwards_is_refused() -> None:
    _, index = files.shape_bytes([[files.square(0, 0, 9)], [files.square(20, 0, 9)], [files.square(40, 0, 9)]])
    with pytest.raises(InputInvalid, match="overlap or run backwards"):
        check(index[:108] + index[116:124] + index[108:116], "shx")


def test_attributes_and_systems_are_checked_lightly() -> None:
    dbf = struct.pack("<4BIHH20x", 3, 124, 1, 1, 2, 65, 11) + b"name\0\0\0\0\0\0\0C" + bytes(20) + b"\r" + b" " * 22
    assert check(dbf, "dbf") is None
    with pytest.raises(InputInvalid, match="do not fit"):
        check(dbf[:70], "dbf")
    with pytest.raises(InputInvalid, match=r"is not a \.dbf"):
        check(b"\x00" + bytes(range(200)), "dbf")
    with pytest.raises(InputInvalid, match=r"is not a \.prj"):
        check(b"hello", "prj")
    with pytest.raises(InputInvalid, match="PNG picture"):
        check(b"\x89PNG\r\n\x1a\n" + bytes(100), "prj")
