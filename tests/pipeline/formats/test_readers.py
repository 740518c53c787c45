"""Readers give back the points that other tools wrote, to less than a micrometre."""

import io
import struct

import laspy
import numpy as np
import pytest

from pipeline.errors import InputInvalid, InputTooLarge
from pipeline.formats.inspect_las import inspect_las
from pipeline.formats.inspect_text import ply_header, text_layout
from pipeline.formats.las import read_las
from pipeline.formats.ply import read_ply
from pipeline.formats.raw import Collector, Frame, RawCloud, without_duplicates, without_strays
from pipeline.formats.source import Source
from pipeline.formats.xyz import read_xyz
from tests.pipeline.formats import files

POINTS = files.terrain()
LOCAL = Frame(np.ones(3), files.ORIGIN)


def source(content: bytes) -> Source:
    return Source("pre", io.BytesIO(content), len(content))


def read(content: bytes, frame: Frame = LOCAL, max_points: int = 10_000) -> RawCloud:
    file = source(content)
    if content.startswith(b"LASF"):
        return read_las(file, inspect_las(file), frame)
    if content.startswith(b"ply"):
        return read_ply(file, ply_header(file), frame)
    return read_xyz(file, text_layout(file), frame, max_points=max_points)


CLOUDS = {
    "las 1.2": files.las_bytes(POINTS, point_format=3, compressed=False),
    "las 1.4": files.las_bytes(POINTS, compressed=False),
    "laz, points as a whole": files.las_bytes(POINTS, point_format=1),
    "laz, layered": files.las_bytes(POINTS, point_format=7),
    "copc": files.copc_bytes(POINTS),
    "ply": files.ply_bytes(POINTS),
    "ply big-endian": files.ply_bytes(POINTS, "binary_big_endian"),
    "ply text": files.ply_bytes(POINTS, "ascii"),
    "xyz": files.xyz_bytes(POINTS),
    "tabs, decimal commas": files.xyz_bytes(POINTS, "\t", decimal=","),
    "semicolons, decimal commas": files.xyz_bytes(POINTS, ";", "Easting;Northing;Height [m]\n", decimal=","),
    "commas and blanks": files.xyz_bytes(POINTS, ", ", "# a comment\n"),
    "byte order mark": b"\xef\xbb\xbf" + files.xyz_bytes(POINTS),
}


@pytest.mark.parametrize("content", CLOUDS.values(), ids=CLOUDS.keys())
def test_every_format_gives_back_the_points_that_were_written(content: bytes) -> None:
    cloud = read(content)
    assert cloud.points.flags.c_contiguous
    np.testing.assert_allclose(cloud.points, POINTS - files.ORIGIN, rtol=0, atol=1e-8)


def test_feet_become_metres() -> None:
    frame = Frame(np.array([0.3048, 0.3048, 1200 / 3937]), np.zeros(3))
    for content in (CLOUDS["las 1.4"], CLOUDS["ply"], CLOUDS["xyz"]):
        np.testing.assert_allclose(read(content, frame).points, POINTS * frame.scale, rtol=1e-15, atol=1e-8)


@pytest.mark.parametrize("point_format", [1, 6])
def test_noise_and_withheld_points_stay_out_and_overlap_stays_in(point_format: int) -> None:
    classes = np.full(len(POINTS), 2, np.uint8)
    classes[:10], classes[10:15], classes[15:40] = 7, 18, 12
    withheld = np.zeros(len(POINTS), bool)
    withheld[40:43] = True
    cloud = read(files.las_bytes(POINTS, point_format=point_format, classes=classes, withheld=withheld))
    assert cloud.flagged == 18
    kept = np.delete(POINTS, [*range(15), 40, 41, 42], axis=0)
    np.testing.assert_allclose(cloud.points, kept - files.ORIGIN, atol=1e-8)
    assert cloud.classes is not None
    assert np.bincount(cloud.classes).tolist() == [0, 0, 557, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25]


def test_never_classified_is_no_class() -> None:
    assert read(files.las_bytes(POINTS)).classes is None
    assert read(files.las_bytes(POINTS, classes=np.ones(len(POINTS), np.uint8))).classes is None


def test_a_column_named_classification_gives_the_classes() -> None:
    rows = "".join(f"{i},{x},{y},{z},{2 + i % 2}\n" for i, (x, y, z) in enumerate(POINTS))
    cloud = read(("point,X,Y,Z,Classification\n" + rows).encode())
    np.testing.assert_allclose(cloud.points, POINTS - files.ORIGIN, atol=1e-8)
    assert cloud.classes is not None
    assert np.bincount(cloud.classes).tolist() == [0, 0, 300, 300]
    ply = files.ply_bytes(POINTS, "ascii").replace(b"uchar red", b"uchar scalar_Classification")
    assert read(ply).flagged == len(POINTS)  # its byte column holds 7, which is noise
    binary = files.ply_bytes(POINTS).replace(b"uchar red", b"uchar class")
    assert read(binary).classes is None  # 0 throughout


def test_lines_without_finite_coordinates_are_counted_and_left_out() -> None:
    broken = b"nan nan nan\n1 2 inf\nfoo bar baz\n4 5\n\n# a comment\n"
    cloud = read(files.xyz_bytes(POINTS) + broken)
    assert (len(cloud.points), cloud.broken) == (len(POINTS), 4)
    points = POINTS.copy()
    points[3:8, 2] = np.nan
    points[9, 0] = np.inf
    cloud = read(files.ply_bytes(points))
    assert (len(cloud.points), cloud.broken) == (len(POINTS) - 6, 6)
    assert np.isfinite(cloud.points).all()


def test_a_text_that_turns_into_prose_is_refused() -> None:
    with pytest.raises(InputInvalid, match="without usable coordinates"):
        read(files.xyz_bytes(files.terrain(3000)) + b"to be or not to be\n" * 5000)


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(InputInvalid, match="a line of more than a million characters"):
        read(files.xyz_bytes(files.terrain(5000)) + b"1" * 3_000_000)


def test_a_text_with_more_points_than_allowed_is_refused() -> None:
    with pytest.raises(InputTooLarge, match="more than 500 points"):
        read(files.xyz_bytes(POINTS), max_points=500)


@pytest.mark.parametrize("point_format", [1, 6])
def test_damage_anywhere_in_compressed_points_is_noticed(point_format: int) -> None:
    points = files.terrain(20_000)
    whole = files.las_bytes(points, point_format=point_format)
    facts = inspect_las(source(whole))
    assert facts.laszip is not None
    rng = np.random.default_rng(0)
    for at in rng.integers(facts.points_at + 8, facts.laszip.table_at - 800, 40):
        damaged = bytearray(whole)
        damaged[at : at + 4] = rng.bytes(4)
        with pytest.raises(InputInvalid, match="pre is damaged"):
            read(bytes(damaged))


def test_chunks_that_claim_to_be_huge_cost_no_memory() -> None:
    whole = files.las_bytes(POINTS)
    at = whole.index(b"laszip encoded") - 2 + 54 + 12
    assert struct.unpack_from("<I", whole, at)[0] == 50_000  # laspy's chunk size, where the specification puts it
    huge = bytearray(whole)
    struct.pack_into("<I", huge, at, 2**31 - 1)  # decoding such a chunk at once would take 60 GB
    np.testing.assert_allclose(read(bytes(huge)).points, POINTS - files.ORIGIN, atol=1e-8)


def test_points_outside_the_stated_bounds_betray_damage() -> None:
    whole = bytearray(files.las_bytes(POINTS, compressed=False))
    with laspy.open(io.BytesIO(bytes(whole))) as reader:
        first = reader.header.offset_to_point_data
    struct.pack_into("<i", whole, first, 2_000_000_000)  # x of the first point
    with pytest.raises(InputInvalid, match="outside the bounds"):
        read(bytes(whole))


def test_repeated_points_count_once_and_the_first_stays() -> None:
    points = np.vstack([POINTS, POINTS[::-1]]) - files.ORIGIN
    classes = np.arange(len(points)).astype(np.uint8)
    cloud, repeats = without_duplicates(RawCloud(points, classes))
    assert repeats == len(POINTS)
    np.testing.assert_array_equal(cloud.points, POINTS - files.ORIGIN)
    np.testing.assert_array_equal(cloud.classes, classes[: len(POINTS)])


def test_repeats_are_found_in_large_clouds_too() -> None:
    points = np.random.default_rng(0).uniform(0, 1000, (150_000, 3))
    _, repeats = without_duplicates(RawCloud(np.vstack([points, points]), None))
    assert repeats == len(points)
    _, none = without_duplicates(RawCloud(np.vstack([points, points + 1e-3]), None))
    assert none == 0


def test_a_point_at_zero_does_not_stretch_the_site() -> None:
    points = np.vstack([POINTS, np.zeros((2, 3))]) - files.ORIGIN
    cloud, strays = without_strays(RawCloud(points, None))
    assert (len(cloud.points), strays) == (len(POINTS), 2)


def test_a_tower_is_no_stray() -> None:
    tower = POINTS - files.ORIGIN + np.array([0.0, 0.0, 1.0]) * (np.arange(len(POINTS)) == 5)[:, None] * 300
    assert without_strays(RawCloud(tower, None))[1] == 0


def test_more_points_than_expected_still_fit() -> None:
    collector = Collector(LOCAL, 10, classified=True)
    for part in np.array_split(POINTS, 7):
        collector.add(tuple(part.T), (np.ones(3), np.zeros(3)), np.full(len(part), 2, np.uint8))
    cloud = collector.done()
    np.testing.assert_array_equal(cloud.points, POINTS - files.ORIGIN)
    np.testing.assert_array_equal(cloud.classes, np.full(len(POINTS), 2))


def test_elements_before_the_points_are_skipped() -> None:
    camera = b"element camera 2\nproperty float f\nproperty uchar n\nelement vertex"
    content = files.ply_bytes(POINTS).replace(b"element vertex", camera)
    body = content.index(b"end_header\n") + len(b"end_header\n")
    np.testing.assert_allclose(read(content[:body] + b"\xff" * 10 + content[body:]).points, POINTS - files.ORIGIN)
