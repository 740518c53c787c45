import numpy as np
import pytest

from pipeline.geometry.spacing import mean_spacing


def field(density: float, size: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(0, size, (int(density * size**2), 2)), rng.normal(size=int(density * size**2))])


@pytest.mark.parametrize(("density", "size"), [(0.2, 400.0), (10, 60.0), (100, 60.0)])
def test_spacing_is_one_over_the_root_of_the_density(density: float, size: float) -> None:
    assert mean_spacing(field(density, size)) == pytest.approx(density**-0.5, rel=0.03)


def test_a_regular_grid_has_the_spacing_of_its_lines() -> None:
    x, y = np.meshgrid(np.arange(200) * 0.25, np.arange(150) * 0.25)
    assert mean_spacing(np.column_stack([x.ravel(), y.ravel(), 0 * x.ravel()])) == pytest.approx(0.25, rel=0.05)


def test_a_ring_is_as_dense_as_the_disc_it_was_cut_from() -> None:
    points = field(10, 100)
    r = np.hypot(points[:, 0] - 50, points[:, 1] - 50)
    assert mean_spacing(points[(r > 25) & (r < 45)]) == pytest.approx(0.316, rel=0.06)


def test_one_stray_point_a_thousand_kilometres_away_changes_little() -> None:
    points = field(10, 60)
    stray = np.vstack([points, [[1e6, -1e6, 0]]])
    assert mean_spacing(stray) == pytest.approx(mean_spacing(points), rel=0.05)


def test_points_that_come_three_times_count_once() -> None:
    points = field(20, 140)
    assert mean_spacing(np.repeat(points, 3, axis=0)) == pytest.approx(mean_spacing(points), rel=0.02)


def test_two_points_have_a_spacing() -> None:
    assert 0 < mean_spacing(np.array([[0.0, 0, 0], [3, 4, 0]])) < 10


def test_one_place_has_no_spacing() -> None:
    with pytest.raises(ValueError, match="one place"):
        mean_spacing(np.ones((50, 3)))
