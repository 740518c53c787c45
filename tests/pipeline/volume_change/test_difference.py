import numpy as np
import pytest

from pipeline.errors import RegistrationFailed
from pipeline.volume_change.comparison.difference import (
    across_gaps,
    choose_cell,
    common_raster,
    compare,
    difference,
    like_neighbours,
    surface,
)
from tests.pipeline.volume_change.pairs import cloud

RNG = np.random.default_rng(7)


def plane(n: int, size: float, noise: float = 0.0, slope: tuple[float, float] = (0.3, -0.2), lift: float = 0.0):
    xy = RNG.uniform(0, size, (n, 2))
    return np.column_stack([xy, xy @ np.array(slope) + lift + RNG.normal(0, noise, n)])


def test_a_tilted_plane_is_met_at_every_cell_centre_wherever_the_points_fell() -> None:
    points = plane(5000, 20.0)
    raster = common_raster(cloud(points), cloud(points), 1.0)
    height = surface(cloud(points), raster).height
    col, row = np.meshgrid(np.arange(raster.cols), np.arange(raster.rows))
    truth = 0.3 * (raster.x0 + col + 0.5) - 0.2 * (raster.y0 + row + 0.5)
    inner = np.s_[1:-1, 1:-1]
    assert np.nanmax(np.abs(height - truth)[inner]) < 0.005


def test_a_lifted_plane_differs_by_its_lift_and_keeps_its_volume() -> None:
    result = difference(cloud(plane(20_000, 30.0)), cloud(plane(15_000, 30.0, lift=0.25)), 1.0)
    assert np.nanmedian(result.change) == pytest.approx(0.25, abs=1e-3)


def test_swapped_surveys_differ_by_the_opposite() -> None:
    a, b = cloud(plane(3000, 20.0, 0.02)), cloud(plane(3000, 20.0, 0.02, lift=1.0))
    assert np.array_equal(difference(a, b, 1.0).change, -difference(b, a, 1.0).change, equal_nan=True)


def test_the_variance_says_how_much_the_means_scatter() -> None:
    a, b = cloud(plane(40_000, 60.0, 0.05)), cloud(plane(40_000, 60.0, 0.02))
    result = difference(a, b, 1.0)
    # Each cell holds about 11 points: σ² = (0.05² + 0.02²) / 11, and E[1/n] is 10 % more.
    z = result.change / np.sqrt(result.variance)
    assert np.nanstd(z) == pytest.approx(1.0, abs=0.08)
    assert np.nanmedian(result.variance) == pytest.approx((0.05**2 + 0.02**2) / 11, rel=0.25)


def test_a_thin_cell_whose_points_agree_by_chance_is_not_thought_sure() -> None:
    crowd = plane(4000, 20.0, 0.05, slope=(0, 0))
    crowd = crowd[~((crowd[:, 0] > 10) & (crowd[:, 0] < 11) & (crowd[:, 1] > 10) & (crowd[:, 1] < 11))]
    twins = np.array([[10.4, 10.5, 0.2], [10.6, 10.5, 0.2]])
    raster = common_raster(cloud(crowd), cloud(crowd), 1.0)
    result = surface(cloud(np.vstack([crowd, twins])), raster)
    assert result.count[10, 10] == 2
    assert result.variance[10, 10] > 0.8 * 0.05**2 / 2


def test_the_cell_is_three_spacings_of_the_coarser_survey() -> None:
    assert choose_cell(0.1, 0.7) == pytest.approx(2.1)
    assert choose_cell(0.7, 0.1) == pytest.approx(2.1)
    assert choose_cell(0.1, 0.7, override=0.5) == 0.5


def test_one_survey_a_hundred_times_denser_does_no_harm() -> None:
    result = difference(cloud(plane(900, 30.0, 0.02)), cloud(plane(90_000, 30.0, 0.02, lift=-0.5)), 3.0)
    assert np.nanmean(result.change) == pytest.approx(-0.5, abs=0.01)
    assert np.isfinite(result.change).mean() > 0.98


def test_surveys_apart_are_refused() -> None:
    with pytest.raises(RegistrationFailed, match="do not overlap"):
        difference(cloud(plane(100, 10.0)), cloud(plane(100, 10.0) + np.array([500.0, 0, 0])), 1.0)


def test_a_stray_point_far_away_does_not_ask_for_all_memory() -> None:
    stray = [[90_000.0, 90_000.0, 0.0]]
    a, b = np.vstack([plane(2000, 20.0), stray]), np.vstack([plane(2000, 20.0), stray])
    raster = common_raster(cloud(a), cloud(b), 0.5)
    assert raster.rows * raster.cols < 1_100_000


def test_cells_that_one_survey_missed_have_no_change() -> None:
    post = plane(4000, 20.0)
    result = difference(cloud(plane(4000, 20.0)), cloud(post[post[:, 0] < 10]), 1.0)
    seen = np.isfinite(result.change)
    assert result.raster.cols == 10
    assert np.array_equal(seen, np.isfinite(result.variance))


def test_narrow_gaps_are_bridged_and_wide_ones_are_not() -> None:
    pre, post = plane(20_000, 30.0), plane(20_000, 30.0, lift=0.4)
    narrow = (post[:, 0] > 10.2) & (post[:, 0] < 11.8)
    wide = (post[:, 0] > 20) & (post[:, 0] < 26)
    raster = common_raster(cloud(pre), cloud(pre), 1.0)
    result = compare(surface(cloud(pre), raster), surface(cloud(post[~narrow & ~wide]), raster), raster)
    bridged = across_gaps(result)
    column = int(11 - raster.x0)
    assert np.isfinite(bridged[5:-5, column - 1 : column + 1]).all()
    assert np.nanmax(np.abs(bridged[5:-5, 8:13] - 0.4)) < 0.35
    assert np.isnan(bridged[5:-5, int(23 - raster.x0)]).all()


def test_border_cells_that_one_survey_saw_do_not_make_a_tilted_plane_change() -> None:
    points = plane(20_000, 30.0)
    ragged = (points[:, 0] > 29) & (np.floor(points[:, 1]) % 2 == 0)
    raster = common_raster(cloud(points), cloud(points), 1.0)
    result = compare(surface(cloud(points), raster), surface(cloud(points[~ragged]), raster), raster)
    filled = like_neighbours(result)
    assert np.isfinite(filled).sum() > np.isfinite(result.change).sum() + 10
    rise = 0.3 * 1.0  # over one cell: what a surface that leans inwards would be wrong by
    assert np.nanmax(np.abs(filled)) < 0.01 * rise
    assert np.nanmax(np.abs(across_gaps(result))) > 0.3 * rise


def test_a_rough_face_in_both_surveys_is_not_measured_better_than_its_surroundings() -> None:
    pre, post = plane(9000, 30.0, slope=(0, 0)), plane(9000, 30.0, slope=(0, 0))
    for points in (pre, post):
        rough = (points[:, 0] > 10) & (points[:, 0] < 20)
        points[rough, 2] += RNG.normal(0, 0.5, int(rough.sum()))
    result = difference(cloud(pre), cloud(post), 1.0)
    assert np.nanmin(result.variance[2:-2, 12:18]) > 0.1 * 2 * 0.5**2 / 10
    assert np.nanmax(result.variance[2:-2, 2:8]) < 1e-6
