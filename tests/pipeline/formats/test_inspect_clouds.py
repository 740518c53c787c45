"""An upload that is not a point cloud is named for what it is, at once."""

import io
import struct
import zipfile
import zlib

import pytest
from pyproj import CRS

from pipeline.errors import InputInvalid, InputTooLarge
from pipeline.formats.inspect import inspect
from tests.pipeline.formats import files

POINTS = files.terrain()
SHP, SHX = files.stable_bytes()


def check(content: bytes, label: str = "pre", name: str = "") -> None:
    inspect(label, io.BytesIO(content), len(content), name)


def zip_bytes() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("survey.las", b"points")
    return out.getvalue()


def patched(content: bytes, at: int, form: str, *values: float) -> bytes:
    changed = bytearray(content)
    struct.pack_into(form, changed, at, *values)
    return bytes(changed)


@pytest.mark.parametrize("point_format", [0, 1, 3, 6, 7, 8])
@pytest.mark.parametrize("compressed", [False, True])
def test_las_and_laz_of_every_common_point_format_are_accepted(point_format: int, compressed: bool) -> None:
    content = files.las_bytes(POINTS, point_format=point_format, compressed=compressed)
    assert check(content) is None


@pytest.mark.parametrize(
    "content",
    [
        files.copc_bytes(POINTS),
        files.ply_bytes(POINTS),
        files.ply_bytes(POINTS, "binary_big_endian"),
        files.ply_bytes(POINTS, "ascii"),
        files.xyz_bytes(POINTS),
        files.xyz_bytes(POINTS, ",", "X,Y,Z\n"),
        files.xyz_bytes(POINTS, ";", decimal=","),
        files.xyz_bytes(POINTS, "\t", "// exported 2024\n"),
        files.xyz_bytes(POINTS, head="600\n"),
        files.xyz_bytes(POINTS, head="nan nan nan\n"),
    ],
    ids=["copc", "ply", "ply big-endian", "ply text", "xyz", "csv", "semicolons", "tabs", "count first", "NaN first"],
)
def test_other_clouds_are_recognised_by_their_content(content: bytes) -> None:
    assert check(content, name="upload.bin") is None


@pytest.mark.case(16, 21)
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG picture"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "a JPEG picture"),
        (b"II*\0" + bytes(100), "a TIFF picture"),
        (b"%PDF-1.7\n" + bytes(100), "a PDF document"),
        (zip_bytes(), "a ZIP archive"),
        (b"\x1f\x8b\x08" + zlib.compress(b"x" * 99), "a gzip archive"),
        (b"ASTM-E57" + bytes(100), "an E57 file"),
        (b"<!DOCTYPE html><html>Please log in</html>", "an HTML page"),
        (b'{"type": "FeatureCollection"}', "a JSON document"),
        (b"# .PCD v0.7\nVERSION 0.7\n", "a PCD file"),
        (b"# made by hand\nv 1 2 3\nv 4 5 6\n", "an OBJ mesh"),
        (SHP, "a .shp (part of a shapefile)"),
        (SHX, "a .shx (part of a shapefile)"),
        (bytes(5000), "a file of nothing but zeros"),
    ],
)
def test_known_files_of_another_kind_are_named(content: bytes, what: str) -> None:
    with pytest.raises(InputInvalid) as refusal:
        check(content, name="survey.laz")
    assert refusal.value.message == f"pre (survey.laz) is {what}, not a point cloud."
    assert refusal.value.remedy.endswith("Upload the survey as LAS, LAZ, COPC, PLY or XYZ text.")
    assert refusal.value.label == "pre"


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(InputInvalid, match=r"post is empty \(0 bytes\)"):
        check(b"", "post")


@pytest.mark.parametrize("content", [b"\x00\x01\x02\xfe" * 500, b"some words\n" * 50, b"1 2\n3 4\n5 6\n"])
def test_garbage_and_prose_are_no_clouds(content: bytes) -> None:
    with pytest.raises(InputInvalid, match=r"binary file|not lines of"):
        check(content)


@pytest.mark.case(13)
@pytest.mark.parametrize("compressed", [False, True])
def test_four_thousand_million_points_in_a_small_file_are_too_many(compressed: bool) -> None:
    content = files.las_bytes(POINTS, compressed=compressed)
    with pytest.raises(InputTooLarge, match="claims 4,000,000,000 points"):
        check(patched(content, 247, "<Q", 4_000_000_000))


@pytest.mark.case(13)
def test_a_compression_that_nobody_achieves_is_refused() -> None:
    content = files.las_bytes(POINTS)
    with pytest.raises(InputInvalid, match="which no compression achieves"):
        check(patched(content, 247, "<Q", 500_000_000))


@pytest.mark.case(14)
@pytest.mark.parametrize("share", [0.0001, 0.02, 0.07, 0.1, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["las", "laz", "copc", "ply"])
def test_a_file_cut_short_is_refused(kind: str, share: float) -> None:
    content = {"copc": files.copc_bytes, "ply": files.ply_bytes}.get(
        kind, lambda points: files.las_bytes(points, compressed=kind == "laz")
    )(POINTS)
    cut = content[: int(len(content) * share)]
    with pytest.raises(InputInvalid):
        check(cut)


@pytest.mark.parametrize(
    ("at", "form", "value", "reason"),
    [
        (25, "<B", 9, "version 1.9"),
        (24, "<B", 3, "version 3.4"),
        (94, "<H", 12, "its own size is wrong"),
        (96, "<I", 10**9, "begin"),
        (100, "<I", 2**31, "variable-length records"),
        (104, "<B", 55, "point format 55"),
        (105, "<H", 3, "take 30 bytes"),
        (131, "<d", float("nan"), "not numbers"),
        (131, "<d", 0.0, "scales"),
        (179, "<d", float("inf"), "not numbers"),
        (179, "<d", -1e30, "off the Earth"),
        (187, "<d", 9e8, "lowest coordinates exceed"),
        (243, "<I", 2**31, "extended records"),
        (247, "<Q", 0, "without any points"),
    ],
)
def test_a_las_header_that_lies_is_refused(at: int, form: str, value: float, reason: str) -> None:
    content = patched(files.las_bytes(POINTS, compressed=False), at, form, value)
    with pytest.raises(InputInvalid, match=reason):
        check(content)


def test_a_compressed_file_without_its_laszip_record_is_refused() -> None:
    content = files.las_bytes(POINTS).replace(b"laszip encoded", b"another record")
    with pytest.raises(InputInvalid, match="lacks the LASzip record"):
        check(content)


XYZ = "property float x\nproperty float y\nproperty float z\nend_header\n"


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("ply\nformat ascii 1.0\nelement vertex 2\nproperty float a\nend_header\n1\n2\n", "no x, y and z"),
        (f"ply\nformat ascii 1.0\nelement vertex 0\n{XYZ}", "without any points"),
        (f"ply\nformat binary_little_endian 1.0\nelement vertex 4000000000\n{XYZ}", "claims 4,000,000,000"),
        (f"ply\nformat binary_little_endian 1.0\nelement vertex 40\n{XYZ}", "cut short"),
        ("ply\nformat morse 1.0\nend_header\n", "cannot be used: 'format morse"),
        ("ply\nformat ascii 1.0\nelement vertex 5\nproperty list uchar int x\nend_header\n", "cannot be used"),
        ("ply\nformat ascii 1.0\ncomment never ends\n", "does not end"),
    ],
)
def test_a_ply_header_that_lies_is_refused(head: str, reason: str) -> None:
    with pytest.raises((InputInvalid, InputTooLarge), match=reason):
        check(head.encode())


def test_a_survey_in_the_slot_of_the_shapefile_is_named() -> None:
    with pytest.raises(InputInvalid, match=r"shp is a point cloud, not the \.shp of a shapefile"):
        check(files.las_bytes(POINTS), "shp")


def test_a_coordinate_system_is_no_cloud_but_a_prj() -> None:
    content = CRS.from_epsg(26917).to_wkt("WKT1_ESRI").encode()
    assert check(content, "prj") is None
    with pytest.raises(InputInvalid, match=r"is a coordinate system \(\.prj\), not a point cloud"):
        check(content)


def test_a_table_of_attributes_is_named() -> None:
    table = struct.pack("<4BIHH20x", 3, 124, 1, 1, 2, 65, 11) + bytes(200)
    with pytest.raises(InputInvalid, match=r"pre is a \.dbf \(part of a shapefile\), not a point cloud"):
        check(table)


def test_a_store_that_fails_is_told_as_such() -> None:
    class Broken(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(InputInvalid, match="pre cannot be read: Input/output error"):
        inspect("pre", Broken(), 1000)


def test_the_points_of_a_cloud_are_told_from_its_head() -> None:
    las = files.las_bytes(POINTS, point_format=6, compressed=True)
    assert inspect("pre", io.BytesIO(las), len(las)) == len(POINTS)
    many = b"".join(b"%d %.2f %.3f\n" % (n, n / 3, n / 7) for n in range(100_000))
    assert inspect("post", io.BytesIO(many), len(many)) == pytest.approx(100_000, rel=0.3)  # later lines are longer
    assert inspect("other", io.BytesIO(b"x"), 1) is None
