"""The truth that accuracy is measured against, itself held against numerical integration."""

import numpy as np
import pytest
from shapely import box

from benchmarks.worlds.changes import Block, Change, Cone, Cosine, Gauss, Trench, Truth, inside, integral
from benchmarks.worlds.kinds import FIT, JUDGE, TABLES, world

SHAPES: list[Change] = [
    Cosine(1.0, -2.0, 5.0, 1.2),
    Gauss(0.3, 0.1, 2.0, -0.8),
    Cone(0.0, 0.5, 4.0, -1.5, 0.8),
    Cone(0.0, 0.5, 4.0, 0.5),
    Block(1.0, 1.0, 9.0, 6.0, 0.4, 1.1, 0.7),
    Block(1.0, 1.0, 9.0, 6.0, 2.1, -0.6),
    Trench(0.0, 0.0, 1.0, (5.0, 4.0), 0.0, 3.0, 2.0, -1.0, 1.5),
    Trench(-1.0, 0.5, 4.0, (5.0, 3.0), 1.3, 3.0, 2.5, -0.9, 2.0),
    Trench(-1.0, 0.5, 0.2, (4.0, 3.0), -0.9, 3.0, 2.5, -0.9),
]
named = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{type(s).__name__}-{getattr(s, 'slope', '')}")
STEP = 0.02
AROUND = (-14.0, -14.0, 14.0, 14.0)


def grid(bounds: tuple[float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    x0, y0, x1, y1 = bounds
    return np.meshgrid(np.arange(x0 + STEP / 2, x1, STEP), np.arange(y0 + STEP / 2, y1, STEP))


@named
def test_a_volume_is_the_integral_of_its_height_change(shape: Change) -> None:
    summed = float(shape(*grid(AROUND)).sum()) * STEP**2
    # the midpoint rule errs by a random part of the rim's cells where walls are sharp
    assert summed == pytest.approx(shape.volume, rel=5e-4)


@named
def test_an_outline_holds_what_is_higher_than_asked(shape: Change) -> None:
    x, y = (v[::2, ::2] for v in grid(AROUND))
    height = np.abs(shape(x, y))
    for above in (0.0, 0.02, 0.3):
        line = shape.outline(above)
        rim = inside(line.buffer(0.02), x, y) & ~inside(line.buffer(-0.02), x, y)  # polygons of arcs err by less
        assert ((height > above) == inside(line, x, y))[~rim].all()
        assert line.area == pytest.approx(np.count_nonzero(height > above) * (2 * STEP) ** 2, rel=5e-3)


@named
def test_a_change_across_the_border_counts_as_far_as_it_is_seen(shape: Change) -> None:
    bounds = (-3.0, -14.0, 2.5, 1.5)
    truth = Truth(shape, bounds)
    assert not truth.whole
    assert truth.volume == pytest.approx(float(shape(*grid(bounds)).sum()) * STEP**2, rel=1e-3)
    assert box(*bounds).buffer(1e-9).contains(truth.exact)
    assert truth.footprint.area <= truth.exact.area <= shape.outline(0.0).area


@named
def test_the_quadrature_across_the_border_is_exact_to_a_ten_thousandth(shape: Change) -> None:
    assert integral(shape, AROUND) == pytest.approx(shape.volume, rel=1e-4)


@pytest.mark.parametrize("which", TABLES)
def test_changes_of_one_world_never_overlap(which: str) -> None:
    for name in TABLES[which]:
        changes = world(which, name, 0).changes
        lines = [change.outline(0.0) for change in changes]
        for i, one in enumerate(lines):
            assert all(one.intersection(other).area < 1e-6 for other in lines[:i]), name


def test_worlds_stand_still_where_they_say_so() -> None:
    for name in JUDGE:
        pair = world("judge", name, 1)
        for change in pair.changes:
            assert pair.stable.intersection(change.outline(0.0)).area < 1e-9, name
        assert pair.stable.area > 0


def test_changes_that_are_close_are_two_to_four_metres_apart() -> None:
    for index in range(5):
        changes = world("judge", "field, 2-4 m apart", index).changes
        assert len(changes) == 8
        for one, other in zip(changes[::2], changes[1::2], strict=True):
            assert 2 - 1e-6 <= one.outline(0.0).distance(other.outline(0.0)) <= 4 + 1e-6
            assert one.volume * other.volume > 0


def test_touching_changes_share_an_edge_and_have_unlike_signs() -> None:
    changes = world("judge", "hills, touching cut and fill", 0).changes
    for one, other in zip(changes[::2], changes[1::2], strict=True):
        assert one.outline(0.0).distance(other.outline(0.0)) < 1e-6
        assert one.volume * other.volume < 0


def test_a_large_cut_takes_a_fifth_of_the_site() -> None:
    for index in range(5):
        pair = world("judge", "hills, one-sided large cut", index)
        assert pair.truths[0].footprint.area > 0.2 * pair.size**2


def test_worlds_for_fitting_and_for_judging_share_neither_seeds_nor_all_kinds() -> None:
    drawn = {
        which: {world(which, name, index).seed for name in table for index in (0, 1)} for which, table in TABLES.items()
    }
    assert not drawn["fit"] & drawn["judge"]
    assert all(kind.seen is None for kind in FIT.values())
    for name, kind in JUDGE.items():
        assert kind.seen == (name in FIT)
        if kind.seen:
            same = {key: value for key, value in vars(kind).items() if key != "seen"}
            assert same == {key: value for key, value in vars(FIT[name]).items() if key != "seen"}
    assert sum(not kind.seen for kind in JUDGE.values()) > 2 * sum(bool(kind.seen) for kind in JUDGE.values())
