import numpy as np
import pytest
from scipy.ndimage import maximum_filter

from pipeline.geometry import point_kernels, raster_kernels


def test_every_repeated_place_is_under_suspicion_and_hardly_any_other() -> None:
    points = np.random.default_rng(3).normal(size=(20_000, 3))
    points[[7, 19_000]] = points[[11, 11]]
    places, hashes = point_kernels.suspects(points.view(np.uint64))
    assert {7, 11, 19_000} <= set(places.tolist())
    assert len(set(hashes[np.isin(places, [7, 11, 19_000])].tolist())) == 1
    assert len(places) < 0.15 * len(points)  # each of n points meets another's mark with a chance below 1/16


def test_the_extent_is_that_of_numpy() -> None:
    points = np.random.default_rng(4).normal(size=(999, 3))
    low, high = point_kernels.extent(points)
    np.testing.assert_array_equal((low, high), (points.min(axis=0), points.max(axis=0)))


def test_rows_are_picked_as_numpy_does() -> None:
    rng = np.random.default_rng(5)
    points, keep = rng.normal(size=(999, 3)), rng.random(999) < 0.3
    np.testing.assert_array_equal(point_kernels.rows_where(points, keep), points[keep])


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (2, 3), (40, 31)])
def test_regrowing_is_a_filter_held_under_a_limit_again_and_again(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(6)
    limit = rng.normal(size=shape)
    expected = opened = limit - rng.random(shape)
    for _ in range(9):
        expected = np.minimum(maximum_filter(expected, 3, mode="nearest"), limit)
    np.testing.assert_array_equal(raster_kernels.regrown(opened, limit, 9), expected)
