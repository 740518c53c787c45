import numpy as np
import pytest

from pipeline.volume_change.comparison.difference import common_raster
from pipeline.volume_change.comparison.m3c2 import NORMAL_RADIUS, RADIUS, core_points, m3c2
from tests.pipeline.volume_change.pairs import cloud

RNG = np.random.default_rng(11)


def slope(n: int, lift: float = 0.0, noise: float = 0.02, gradient: float = 0.5) -> np.ndarray:
    xy = RNG.uniform(0, 20, (n, 2))
    return np.column_stack([xy, gradient * xy[:, 0] + lift + RNG.normal(0, noise, n)])


def brute_force(pre: np.ndarray, post: np.ndarray, core: np.ndarray, cell: float, half: float) -> tuple[float, float]:
    """Distance and LoD95 of one core point, straight from the paper."""
    near = pre[np.linalg.norm(pre - core, axis=1) <= NORMAL_RADIUS * cell]
    normal = np.linalg.svd(near - near.mean(axis=0))[2][2]
    normal *= np.sign(normal[2])
    sides = []
    for points in (pre, post):
        along = (points - core) @ normal
        off = np.linalg.norm(points - core - along[:, None] * normal, axis=1)
        sides.append(along[(off <= RADIUS * cell) & (np.abs(along) <= half)])
    s = sum(side.var(ddof=1) / len(side) for side in sides)
    return sides[1].mean() - sides[0].mean(), 1.96 * (np.sqrt(s) + 0.005)


def test_distances_and_levels_of_detection_are_those_of_the_definition() -> None:
    pre, post = slope(3000), slope(2500, lift=0.3)
    cores = pre[(np.abs(pre[:, :2] - 10) < 7).all(axis=1)][:40]
    found = m3c2(pre, post, cores, cell=1.0, half_length=4.0, registration_error=0.005)
    expected = np.array([brute_force(pre, post, core, 1.0, 4.0) for core in cores])
    assert np.allclose(found.distance, expected[:, 0], atol=1e-9)
    assert np.allclose(found.lod95, expected[:, 1], atol=1e-9)


def test_a_slope_that_was_lifted_moved_less_along_its_normal() -> None:
    pre, post = slope(20_000, noise=0.0), slope(20_000, lift=1.0, noise=0.0)
    cores = pre[(np.abs(pre[:, :2] - 10) < 6).all(axis=1)][:200]
    found = m3c2(pre, post, cores, cell=0.5, half_length=3.0, registration_error=0.0)
    # 1 m straight up along a plane of slope 0.5 is cos(atan 0.5) along the normal.
    assert np.allclose(found.distance, 1 / np.hypot(1, 0.5), atol=1e-6)


def test_few_points_give_no_distance() -> None:
    pre = slope(4000)
    found = m3c2(pre, pre[:3], pre[:10], cell=1.0, half_length=3.0, registration_error=0.0)
    assert np.isnan(found.distance).all()
    assert np.isnan(found.lod95).all()


def test_no_core_points_give_an_empty_result() -> None:
    found = m3c2(slope(100), slope(100), np.zeros((0, 3)), cell=1.0, half_length=3.0, registration_error=0.0)
    assert found.points.shape == found.normals.shape == (0, 3)
    assert len(found.distance) == len(found.lod95) == len(found.hull) == 0


def test_unchanged_ground_stays_below_its_level_of_detection_nineteen_times_in_twenty() -> None:
    pre, post = slope(30_000, gradient=0.0), slope(30_000, gradient=0.0)
    raster = common_raster(cloud(pre), cloud(post), 0.4)
    wanted = np.zeros((raster.rows, raster.cols), dtype=bool)
    wanted[::4, ::4] = True  # far enough apart that cylinders share no points
    found = m3c2(pre, post, core_points(cloud(pre), raster, wanted), cell=0.4, half_length=2.0, registration_error=0.0)
    assert np.nanmean(np.abs(found.distance) < found.lod95) == pytest.approx(0.95, abs=0.03)


def test_core_points_are_reference_points_one_per_cell() -> None:
    pre = slope(5000)
    raster = common_raster(cloud(pre), cloud(pre), 1.0)
    cores = core_points(cloud(pre), raster, np.ones((raster.rows, raster.cols), bool))
    cells = np.floor((cores[:, :2] - [raster.x0, raster.y0]) / 1.0)
    assert len(np.unique(cells, axis=0)) == len(cores) == 400
    assert (np.abs(cores[:, None] - pre[None, :]).sum(axis=2).min(axis=1) == 0).all()


def test_core_points_are_thinned_evenly_beyond_the_limit() -> None:
    pre = slope(5000)
    raster = common_raster(cloud(pre), cloud(pre), 1.0)
    cores = core_points(cloud(pre), raster, np.ones((raster.rows, raster.cols), bool), most=120)
    assert 80 <= len(cores) <= 120
    assert np.ptp(cores[:, 0]) > 17
