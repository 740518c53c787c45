"""Tiles on disk hold what was given, by place, none larger than it may be."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.tiled.store import DEEPEST, ROOT_M, TileStore

RNG = np.random.default_rng(3)


def points(count: int, size: float = 300.0, at: tuple[float, float] = (100.0, 40.0)) -> np.ndarray:
    return np.column_stack([RNG.uniform(0, size, (count, 2)) + at, RNG.normal(0, 3, count)])


def filled(folder: Path, *parts: np.ndarray, most: int = 500) -> TileStore:
    store = TileStore(folder / "tiles", most)
    for part in parts:
        store.take(part, None)
    return store


def test_every_point_is_in_the_one_tile_whose_square_holds_it(tmp_path: Path) -> None:
    cloud = points(7000)
    tiles = filled(tmp_path, cloud[:3000], cloud[3000:]).tiles()
    assert sum(tile.count for tile in tiles) == 7000
    for tile in tiles:
        left, bottom, right, top = tile.square
        x, y = cloud[:, 0], cloud[:, 1]
        mine = cloud[(x >= left) & (x < right) & (y >= bottom) & (y < top)]
        assert tile.count <= 500
        np.testing.assert_array_equal(tile.points(), mine)  # in the order in which they came
        np.testing.assert_array_equal(tile.low, mine.min(axis=0))
        np.testing.assert_array_equal(tile.high, mine.max(axis=0))


def test_the_tiles_do_not_depend_on_how_the_points_arrive(tmp_path: Path) -> None:
    cloud = points(5000)
    at_once = filled(tmp_path / "a", cloud).tiles()
    in_pieces = filled(tmp_path / "b", *np.array_split(cloud, 37)).tiles()
    assert [tile.square for tile in at_once] == [tile.square for tile in in_pieces]
    for one, other in zip(at_once, in_pieces, strict=True):
        np.testing.assert_array_equal(one.points(), other.points())


def test_classes_stay_with_their_points(tmp_path: Path) -> None:
    cloud = points(3000)
    classes = (cloud[:, 0].astype(int) % 7).astype(np.uint8)
    store = TileStore(tmp_path / "tiles", 400)
    store.take(cloud, classes)
    for tile in store.tiles():
        np.testing.assert_array_equal(tile.classes(), tile.points()[:, 0].astype(int) % 7)


def test_points_thousands_of_kilometres_apart_and_below_zero_keep_their_tiles(tmp_path: Path) -> None:
    far = np.array([[-3e6, 5e6, 0.0], [2e7, -1e7, 0.0], [-0.5, -0.5, 0.0], [ROOT_M, 0.0, 0.0]])
    cloud = np.vstack([points(2000), far])
    tiles = filled(tmp_path, cloud).tiles()
    assert sum(tile.count for tile in tiles) == len(cloud)
    for place in far:
        (mine,) = [t for t in tiles if (np.array(t.square[:2]) <= place[:2]).all() and (place[:2] < t.square[2:]).all()]
        assert place.tolist() in mine.points().tolist()


def test_more_points_at_one_place_than_a_tile_may_hold_end_the_quartering(tmp_path: Path) -> None:
    (tile,) = filled(tmp_path, np.ones((2000, 3)), most=500).tiles()
    assert tile.count == 2000
    assert tile.square[2] - tile.square[0] == ROOT_M / 2**DEEPEST


def test_scrap_coordinates_cost_no_more_than_so_many_squares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.tiled.store.MOST_ROOTS", 5)
    scrap = RNG.uniform(-1e300, 1e300, (300, 3))
    store = filled(tmp_path, scrap)
    assert sum(tile.count for tile in store.tiles()) == 300
    assert len(list((tmp_path / "tiles").iterdir())) <= 5


def test_a_restart_forgets_what_came_before(tmp_path: Path) -> None:
    store = filled(tmp_path, points(2000))
    store.restart()
    assert store.tiles() == ()
    store.take(points(10), None)
    assert sum(tile.count for tile in store.tiles()) == 10


@pytest.mark.parametrize("area", [90_000.0, 1e-3, 1e12, 0.0, np.inf, np.nan])
def test_a_guess_of_the_density_right_or_wrong_keeps_tiles_small_and_points_in_place(
    tmp_path: Path, area: float
) -> None:
    cloud = points(4000)
    store = TileStore(tmp_path / "tiles", 500)
    store.expect(len(cloud), area)
    for part in np.array_split(cloud, 5):
        store.take(part, None)
    tiles = store.tiles()
    assert max(tile.count for tile in tiles) <= 500
    assert sorted(np.vstack([tile.points() for tile in tiles]).tolist()) == sorted(cloud.tolist())
    for tile in tiles:
        assert (tile.low[:2] >= tile.square[:2]).all()
        assert (tile.high[:2] < tile.square[2:]).all()
