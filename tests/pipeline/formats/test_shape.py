"""Stable polygons come out valid, whatever way they were drawn."""

import io
import struct

import numpy as np
import pytest
import shapefile

from pipeline.errors import InputInvalid
from pipeline.formats.shape import Area, build_area, read_rings
from pipeline.formats.source import Source
from tests.pipeline.formats import files

Ring = list[tuple[float, float]]

SOURCE = Source("shp", io.BytesIO(), 0)


def area_of(polygons: list[list[Ring]], kind: int = shapefile.POLYGON) -> Area:
    shp, shx = files.shape_bytes(polygons, kind)
    return build_area(SOURCE, rings(shp, shx), lambda ring: ring)


def rings(shp: bytes, shx: bytes | None) -> list[list[np.ndarray]]:
    index = None if shx is None else Source("shx", io.BytesIO(shx), len(shx))
    return read_rings(Source("shp", io.BytesIO(shp), len(shp)), index)


def test_two_squares_are_two_squares() -> None:
    area = area_of([[files.square(0, 0, 10)], [files.square(20, 0, 5)]])
    assert area.polygons.area == 125
    assert (area.mended, area.dropped, len(area.polygons.geoms)) == (0, 0, 2)


@pytest.mark.parametrize("clockwise", [True, False])
def test_a_ring_inside_another_is_a_hole_whatever_way_round(clockwise: bool) -> None:
    shp, shx = files.shape_bytes([[files.square(0, 0, 10), files.square(3, 3, 4, clockwise=False)]])
    shapes = rings(shp, shx)
    if clockwise:
        shapes[0][1] = shapes[0][1][::-1]
    area = build_area(SOURCE, shapes, lambda ring: ring)
    assert area.polygons.area == 84
    assert area.polygons.is_valid


def test_an_island_in_a_lake_is_ground() -> None:
    shp, shx = files.shape_bytes([[files.square(0, 0, 10), files.square(2, 2, 6, clockwise=False)]])
    shapes = rings(shp, shx)
    shapes[0].append(np.array(files.square(4, 4, 2)))
    assert build_area(SOURCE, shapes, lambda ring: ring).polygons.area == 100 - 36 + 4


def test_a_bow_tie_keeps_both_halves() -> None:
    area = area_of([[[(0, 0), (2, 2), (2, 0), (0, 2), (0, 0)]]])
    assert area.mended == 1
    assert area.polygons.is_valid
    assert area.polygons.area == pytest.approx(2.0)  # two triangles of base 2 and height 1


def test_a_scribble_is_refused_before_it_costs_anything() -> None:
    vertices = np.random.default_rng(0).uniform(0, 100, (3000, 2))  # some 700,000 crossings
    with pytest.raises(InputInvalid, match="crosses itself more than 2,000 times"):
        area_of([[[tuple(vertex) for vertex in [*vertices, vertices[0]]]]])


def test_many_holes_in_one_polygon_are_no_matter() -> None:
    holes = [files.square(3 * (i % 100) + 1, 3 * (i // 100) + 1, 1, clockwise=False) for i in range(5000)]
    area = area_of([[files.square(0, 0, 400), *holes]])
    assert (area.mended, area.polygons.area) == (0, 400**2 - 5000)


def test_a_ring_drawn_twice_counts_once() -> None:
    shp, shx = files.shape_bytes([[files.square(0, 0, 10)]])
    ((ring,),) = rings(shp, shx)
    assert build_area(SOURCE, [[ring, ring]], lambda ring: ring).polygons.area == 100


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ([[np.array(files.square(i, i, 1000 - 2 * i)) for i in range(400)]], None),
        ([[np.array(files.square(i / 100, i / 100, 100 - i / 50)) for i in range(3000)]], "rings within rings"),
        ([[np.array([(0, i), (2, i + 2), (2, i), (0, i + 2), (0, i)], float)] for i in range(1001)], "more than 1,000"),
    ],
    ids=["400 deep", "3000 deep", "1001 bow-ties"],
)
def test_only_the_absurd_is_refused(shapes: list[list[np.ndarray]], reason: str | None) -> None:
    if reason is None:
        assert build_area(SOURCE, shapes, lambda ring: ring).polygons.is_valid
    else:
        with pytest.raises(InputInvalid, match=reason):
            build_area(SOURCE, shapes, lambda ring: ring)


def test_overlapping_records_count_once() -> None:
    assert area_of([[files.square(0, 0, 10)], [files.square(5, 0, 10)]]).polygons.area == 150


def test_rings_without_area_are_dropped() -> None:
    line = [(0.0, 0.0), (5.0, 5.0), (0.0, 0.0), (0.0, 0.0)]
    area = area_of([[files.square(0, 0, 10)], [line]])
    assert (area.dropped, area.polygons.area) == (1, 100)


def test_vertices_that_are_not_numbers_are_dropped_with_their_ring() -> None:
    shp, shx = files.stable_bytes()
    damaged = bytearray(shp)
    struct.pack_into("<d", damaged, 156, float("nan"))
    area = build_area(SOURCE, rings(bytes(damaged), shx), lambda ring: ring)
    assert (area.dropped, area.polygons.area) == (1, 400)


def test_heights_and_measures_are_ignored() -> None:
    shp, shx = io.BytesIO(), io.BytesIO()
    with shapefile.Writer(shp=shp, shx=shx, shapeType=shapefile.POLYGONZ) as writer:
        writer.polyz([[(x, y, 7.0, 1.0) for x, y in files.square(0, 0, 10)]])
        writer.close()
        contents = shp.getvalue(), shx.getvalue()
    assert build_area(SOURCE, rings(*contents), lambda ring: ring).polygons.area == 100


def test_the_index_is_not_needed_to_find_the_records() -> None:
    shp, shx = files.stable_bytes()
    with_index, without = rings(shp, shx), rings(shp, None)
    assert len(without) == 2
    for a, b in zip(with_index, without, strict=True):
        np.testing.assert_array_equal(a[0], b[0])


def test_the_rings_are_those_that_another_reader_sees() -> None:
    shp, shx = files.stable_bytes()
    with shapefile.Reader(shp=io.BytesIO(shp), shx=io.BytesIO(shx)) as reader:
        expected = [shape.points for shape in reader.shapes()]
    np.testing.assert_array_equal([r[0] for r in rings(shp, shx)], expected)


def test_an_index_of_another_file_is_refused() -> None:
    shp, _ = files.stable_bytes()
    _, other = files.shape_bytes([[files.square(0, 0, 1), files.square(5, 5, 1)]])
    with pytest.raises(InputInvalid, match="does not belong"):
        rings(shp, other)
