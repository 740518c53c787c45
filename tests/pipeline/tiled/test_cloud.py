"""A survey in tiles answers as the same survey in memory does."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.clouds import PointCloud
from pipeline.geometry.rigid import motion
from pipeline.tiled.cloud import TiledCloud
from pipeline.tiled.store import TileStore

RNG = np.random.default_rng(4)
ORIGIN = np.array([1000.0, 2000.0, 30.0])
SHIFT = np.array([100.0, 0.0, 10.0])
COUNT = 6000
TURN = motion(np.array([3.0, -2, 0.5, 0.01, -0.02, 0.8]), np.zeros(3))


@pytest.fixture
def both(tmp_path: Path) -> tuple[PointCloud, TiledCloud]:
    points = np.column_stack([RNG.uniform(0, 200, (COUNT, 2)), RNG.normal(40, 2, COUNT)])
    classes = RNG.integers(0, 10, COUNT).astype(np.uint8)
    store = TileStore(tmp_path / "tiles", 700)
    store.take(points, classes)
    tiled = TiledCloud(store.tiles(), ORIGIN, classified=True, crs="EPSG:26917", name="a.laz", shift=SHIFT)
    return PointCloud(points - SHIFT, ORIGIN, classes, "EPSG:26917", "a.laz"), tiled


def rows(points: np.ndarray) -> list[list[float]]:
    return sorted(points.round(9).tolist())


def test_its_blocks_hold_all_points_with_their_classes(both: tuple[PointCloud, TiledCloud]) -> None:
    memory, tiled = both
    blocks = list(tiled.blocks())
    assert len(blocks) > 8
    together = np.column_stack([np.vstack([b.points for b in blocks]), np.concatenate([b.classes for b in blocks])])
    assert rows(together) == rows(np.column_stack([memory.points, memory.classes]))
    assert all(b.name == "a.laz" and b.crs == "EPSG:26917" for b in blocks)


def test_extent_spacing_and_classes_are_the_same(both: tuple[PointCloud, TiledCloud]) -> None:
    memory, tiled = both
    for one, other in ((memory, tiled), (memory.moved(TURN), tiled.moved(TURN))):
        assert len(one) == len(other)
        np.testing.assert_allclose(one.extent, other.extent, rtol=0, atol=1e-9)
        assert one.spacing() == pytest.approx(other.spacing(), rel=1e-12)
        assert one.class_counts.tolist() == other.class_counts.tolist()


def test_a_sample_is_every_nth_point_and_spread_like_all(both: tuple[PointCloud, TiledCloud]) -> None:
    _, tiled = both
    everything = np.vstack([block.points for block in tiled.blocks()])
    for most in (COUNT, 1000, 77):
        np.testing.assert_array_equal(tiled.sample(most), everything[:: COUNT // most])


def test_its_outline_reaches_to_every_corner(both: tuple[PointCloud, TiledCloud]) -> None:
    memory, tiled = both
    assert tiled.outline().min(axis=0).tolist() == memory.extent[0].tolist()
    assert tiled.outline().max(axis=0).tolist() == memory.extent[1].tolist()


def test_parts_hold_what_they_were_dealt_moved_or_not(both: tuple[PointCloud, TiledCloud]) -> None:
    def tell(block: PointCloud) -> np.ndarray:
        return (block.classes % 3).astype(np.uint8)

    memory, tiled = both
    for one, other in zip(memory.split(tell, 1, 2), tiled.split(tell, 1, 2), strict=True):
        assert len(one) == len(other)
        moved = np.vstack([block.points for block in other.moved(TURN).blocks()])
        assert rows(moved) == rows(one.moved(TURN).points)
        np.testing.assert_allclose(one.extent, other.extent, rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="cannot be split again"):
        other.where(lambda block: block.points[:, 0] > 0)


def test_a_part_chosen_by_a_mask_is_that_part(both: tuple[PointCloud, TiledCloud]) -> None:
    memory, tiled = both
    for cloud in (memory, tiled):
        kept = cloud.where(lambda block: block.points[:, 2] > 31)
        assert sum(len(block) for block in kept.blocks()) == len(kept) == int((memory.points[:, 2] > 31).sum())


def test_windows_partition_the_plane_and_near_finds_all_points_of_a_box(both: tuple[PointCloud, TiledCloud]) -> None:
    memory, tiled = both
    x, y = memory.points[:, 0], memory.points[:, 1]
    held = [((x >= a) & (x < c) & (y >= b) & (y < d)).sum() for a, b, c, d in tiled.windows()]
    assert sum(held) == COUNT
    for one, other in ((memory, tiled), (memory.moved(TURN), tiled.moved(TURN))):
        for box in ((-100.0, 0.0, -40.0, 75.0), (10.0, 10.0, 10.5, 10.5), (-1e9, -1e9, 1e9, 1e9)):
            assert rows(one.near(box)) == rows(other.near(box))
