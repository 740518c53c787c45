from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from shapely import MultiPolygon, Point, box
from shapely.affinity import translate

from benchmarks.scenes import ORIGIN, SIX_CHANGES, Bump, Plateau, Scene, flat, hills, quarry
from pipeline.clouds import PointCloud
from pipeline.errors import RegistrationFailed, StableAreaEmpty
from pipeline.volume_change.types import Analysis, Hull, Totals
from tests.pipeline.volume_change.pairs import (
    STILL,
    analyse,
    analyse_scene,
    cloud,
    clouds_of,
    moved_by,
    scene,
    stable_of,
)

PAIR = scene(Bump(22, 24, 6, 0.8), Plateau(40, 38, 4, -0.6))


def at(analysis: Analysis, change: Bump | Plateau) -> list[Hull]:
    """The hulls that hold the middle of a change."""
    return [hull for hull in analysis.hulls if hull.polygon.contains(Point(change.x, change.y))]


def check(analysis: Analysis) -> None:
    """What holds for any result."""
    numbers = set(np.unique(analysis.labels).tolist()) - {0}
    assert numbers == set(range(1, len(analysis.hulls) + 1))
    assert [hull.id for hull in analysis.hulls] == [str(n) for n in range(1, len(analysis.hulls) + 1)]
    ranks = [(-hull.score, -abs(hull.net_volume)) for hull in analysis.hulls]
    assert all(a <= b for a, b in pairwise(ranks))
    for hull in analysis.hulls:
        assert hull.polygon.is_valid
        assert 0 <= hull.score <= 1
        assert 0 < hull.coverage <= 1
        assert hull.area == hull.polygon.area > 0
        assert hull.polygon.buffer(1e-9).contains(Point(hull.centroid))
        assert np.isfinite([hull.mean_change, hull.max_change]).all()
        check_volumes(hull)
    check_volumes(analysis.totals)
    check_volumes(analysis.site)


def check_volumes(result: Hull | Totals) -> None:
    assert result.net_volume == result.fill_volume - result.cut_volume
    assert min(result.cut_volume, result.fill_volume) >= 0
    for value, interval in (
        (result.cut_volume, result.cut_volume_ci95),
        (result.fill_volume, result.fill_volume_ci95),
        (result.net_volume, result.net_volume_ci95),
    ):
        assert np.isfinite([value, *interval]).all()
        assert interval[0] <= value <= interval[1]


def test_a_million_points_give_six_hulls_and_their_volumes() -> None:
    pair = Scene("hills", hills(), SIX_CHANGES)
    analysis = analyse_scene(pair)
    check(analysis)
    sure = [hull for hull in analysis.hulls if hull.score >= 0.5]
    assert all(len(at(analysis, change)) == 1 for change in SIX_CHANGES)
    assert len(sure) <= 7
    moved = sum(abs(change.volume) for change in SIX_CHANGES)
    net = sum(change.volume for change in SIX_CHANGES)
    assert abs(analysis.totals.net_volume - net) < 0.005 * moved
    assert analysis.totals.net_volume_ci95[0] <= net <= analysis.totals.net_volume_ci95[1]
    assert analysis.site.net_volume_ci95[0] <= net <= analysis.site.net_volume_ci95[1]
    for change in SIX_CHANGES:
        (hull,) = at(analysis, change)
        assert hull.net_volume == pytest.approx(change.volume, rel=0.02)
        assert hull.kind == "ground"
        if isinstance(change, Plateau):
            assert hull.area == pytest.approx(np.pi * change.radius**2, rel=0.1)


def test_large_cuts_are_measured_within_half_a_percent() -> None:
    cuts = (Bump(45, 50, 25, -6.0), Plateau(90, 90, 15, -3.0), Bump(95, 35, 18, 2.5))
    analysis = analyse_scene(Scene("cuts", hills(), cuts, density=20.0))
    assert len([h for h in analysis.hulls if h.score >= 0.5]) == 3
    moved = sum(abs(cut.volume) for cut in cuts)
    assert abs(analysis.totals.net_volume - sum(cut.volume for cut in cuts)) < 0.005 * moved


def test_a_quarry_with_correlated_error_hides_no_change_and_feigns_none() -> None:
    changes = (Bump(30, 35, 8, -1.5), Bump(70, 60, 7, 1.2), Plateau(35, 75, 5, -0.8))
    pair = Scene("quarry", quarry(), changes, size=100.0, density=30.0, correlated=0.01, seed=3)
    analysis = analyse_scene(pair)
    check(analysis)
    for change in changes:
        (hull,) = at(analysis, change)
        assert hull.net_volume_ci95[0] <= change.volume <= hull.net_volume_ci95[1]
    assert len([h for h in analysis.hulls if h.score >= 0.5]) == 3


@pytest.mark.parametrize(
    ("density", "size", "radius"), [(0.2, 400.0, 30.0), (1.0, 200.0, 14.0), (8.0, 80.0, 6.0), (100.0, 30.0, 3.0)]
)
def test_lengths_follow_the_point_density(density: float, size: float, radius: float) -> None:
    change = Bump(size / 2, size / 2, radius, 1.0)
    pair = scene(change, size=size, density=density, margin=size / 6)
    analysis = analyse_scene(pair)
    assert analysis.difference.raster.cell == pytest.approx(3 / density**0.5, rel=0.15)
    (hull,) = analysis.hulls
    assert hull.net_volume == pytest.approx(change.volume, rel=0.06)


def test_one_survey_a_hundred_times_denser() -> None:
    change = Bump(50, 50, 14, 1.0)
    analysis = analyse_scene(scene(change, size=100.0, density=0.6, density_post=60.0, margin=18.0))
    (hull,) = analysis.hulls
    assert hull.net_volume_ci95[0] <= change.volume <= hull.net_volume_ci95[1]


def test_twenty_pairs_without_change_have_no_sure_hull() -> None:
    surfaces = (hills(), flat(), quarry())
    sure = 0
    for seed in range(20):
        pair = scene(seed=seed, surface=surfaces[seed % 3], correlated=0.01 * (seed % 2), density=12.0)
        sure += sum(hull.score >= 0.5 for hull in analyse_scene(pair).hulls)
    assert sure == 0


def test_a_survey_compared_with_itself_has_not_changed() -> None:
    pre, _ = clouds_of(PAIR)
    analysis = analyse(pre, pre, stable_of(PAIR))
    check(analysis)
    assert analysis.hulls == ()
    assert analysis.totals.net_volume == analysis.site.net_volume == 0.0
    assert np.nanmax(np.abs(analysis.core.distance)) == 0.0


def test_a_survey_without_any_noise_is_no_reason_to_divide_by_zero() -> None:
    x, y = np.meshgrid(np.arange(0, 60, 0.3), np.arange(0, 60, 0.3))
    pre = np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)])
    post = pre.copy()
    post[np.hypot(x.ravel() - 30, y.ravel() - 30) < 6, 2] -= 1.0
    analysis = analyse(cloud(pre), cloud(post), stable_of(PAIR))
    check(analysis)
    (hull,) = analysis.hulls
    assert hull.cut_volume == pytest.approx(np.pi * 36, rel=0.02)


def test_swapping_the_surveys_swaps_cut_and_fill() -> None:
    pre, post = clouds_of(PAIR)
    there, back = analyse(pre, post, stable_of(PAIR)), analyse(post, pre, stable_of(PAIR))
    assert [h.cut_volume for h in there.hulls] == pytest.approx([h.fill_volume for h in back.hulls])
    assert [h.fill_volume for h in there.hulls] == pytest.approx([h.cut_volume for h in back.hulls])
    assert there.site.net_volume == pytest.approx(-back.site.net_volume)
    assert there.totals.net_volume_ci95 == pytest.approx(tuple(-v for v in back.totals.net_volume_ci95[::-1]))


def test_where_the_site_lies_does_not_matter() -> None:
    pre, post = clouds_of(PAIR)
    shift = np.array([512.0, -256.0, 64.0])
    here = analyse(pre, post, stable_of(PAIR))
    there = analyse(cloud(pre.points + shift), cloud(post.points + shift), translate(stable_of(PAIR), *shift[:2]))
    assert [h.net_volume for h in there.hulls] == pytest.approx([h.net_volume for h in here.hulls], abs=1e-6)
    assert [h.area for h in there.hulls] == pytest.approx([h.area for h in here.hulls], abs=1e-6)


def test_the_same_input_gives_the_same_bytes() -> None:
    first, second = analyse_scene(PAIR), analyse_scene(PAIR)
    assert repr(first.hulls) == repr(second.hulls)
    assert [h.polygon.wkb for h in first.hulls] == [h.polygon.wkb for h in second.hulls]
    assert first.core.distance.tobytes() == second.core.distance.tobytes()
    assert first.difference.change.tobytes() == second.difference.change.tobytes()


def test_hulls_below_the_wanted_score_are_left_out_of_everything_but_the_site() -> None:
    pair = scene(Bump(22, 24, 6, 0.8), Plateau(40, 38, 2.4, -0.06), density=40.0, seed=2)
    every = analyse_scene(pair)
    assert len(every.hulls) == 2
    bar = (every.hulls[0].score + every.hulls[1].score) / 2
    some = analyse_scene(pair, min_score=bar)
    check(some)
    assert len(some.hulls) == 1
    left_out = every.hulls[1].net_volume
    assert (some.totals.cut_volume if left_out < 0 else some.totals.fill_volume) == 0.0
    assert some.site == every.site


def test_the_registration_is_applied_and_a_removed_offset_is_said() -> None:
    pre, post = clouds_of(PAIR)
    lower = cloud(post.points - [0, 0, 0.41])
    analysis = analyse(pre, lower, stable_of(PAIR), registration=moved_by(0.41))
    (notice,) = [n for n in analysis.warnings if n.code == "STABLE_GROUND_OFFSET"]
    assert "\N{MINUS SIGN}0.41 m on stable ground" in notice.message
    assert "removed" in notice.message
    assert analysis.errors.bias == pytest.approx(-0.41)
    assert [h.net_volume for h in analysis.hulls] == pytest.approx(
        [h.net_volume for h in analyse(pre, post, stable_of(PAIR)).hulls], rel=1e-3
    )


def test_an_offset_that_was_not_removed_is_said_and_widens_every_interval() -> None:
    pre, post = clouds_of(scene(Bump(30, 30, 6, 3.0)))
    analysis = analyse(pre, cloud(post.points + np.array([0, 0, 0.3])), stable_of(PAIR))
    (notice,) = [n for n in analysis.warnings if n.code == "STABLE_GROUND_OFFSET"]
    assert "left in" in notice.message
    assert analysis.site.net_volume_ci95[0] < Bump(30, 30, 6, 3.0).volume < analysis.site.net_volume_ci95[1]


def test_surveys_that_agree_are_not_accused_of_an_offset() -> None:
    assert [n.code for n in analyse_scene(PAIR).warnings] == []


def test_little_stable_ground_is_said() -> None:
    analysis = analyse(*clouds_of(PAIR), MultiPolygon([box(0, 0, 4, 4)]))
    assert "FEW_STABLE_POINTS" in [n.code for n in analysis.warnings]


def test_a_survey_with_holes_is_said_to_have_them() -> None:
    pre, post = clouds_of(PAIR)
    seen = (post.points[:, 0] // 4) % 3 > 0
    analysis = analyse(pre, post.select(seen), stable_of(PAIR))
    check(analysis)
    assert "LOW_COVERAGE" in [n.code for n in analysis.warnings]


def test_stable_ground_outside_the_surveys_is_refused() -> None:
    with pytest.raises(StableAreaEmpty):
        analyse(*clouds_of(PAIR), MultiPolygon([box(900, 900, 950, 950)]))


def test_ten_points_are_refused_rather_than_judged() -> None:
    pre, post = clouds_of(PAIR)
    few = [PointCloud(c.points[:10].copy(), ORIGIN) for c in (pre, post)]
    with pytest.raises((StableAreaEmpty, RegistrationFailed)):
        analyse(*few, stable_of(PAIR))


def test_duplicate_points_change_no_volume_beyond_its_interval() -> None:
    pre, post = clouds_of(PAIR)
    analysis = analyse(cloud(np.repeat(pre.points, 3, axis=0)), post, stable_of(PAIR))
    check(analysis)
    for change in PAIR.changes:
        (hull,) = at(analysis, change)
        assert hull.net_volume == pytest.approx(change.volume, rel=0.03)


def test_core_points_know_their_hull() -> None:
    analysis = analyse_scene(PAIR)
    core = analysis.core
    for number, hull in enumerate(analysis.hulls, start=1):
        own = core.points[core.hull == number]
        assert len(own) > 20
        grown = hull.polygon.buffer(2 * analysis.difference.raster.cell)
        assert all(grown.contains(Point(*p[:2])) for p in own)
        assert np.sign(np.nanmean(core.distance[core.hull == number])) == np.sign(hull.net_volume)


def test_the_stage_reports_rising_progress() -> None:
    from pipeline.volume_change.detect import detect
    from pipeline.volume_change.ground import Ground
    from pipeline.volume_change.types import Surveys

    told: list[float] = []

    def remember(fraction: float, stage: str) -> None:
        told.append(fraction)

    pre, post = clouds_of(PAIR)
    none = cloud(np.zeros((0, 3)))
    detect(
        Surveys(pre, post, stable_of(PAIR)), Ground(pre, post, none, none, "all points"), STILL,
        cell=None, min_score=0.0, report=remember,
    )  # fmt: skip
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_bush_that_grew_is_not_taken_for_ground() -> None:
    rng = np.random.default_rng(4)
    pre, post = clouds_of(scene(Bump(20, 20, 5, 0.8), density=40.0))
    grown = post.points.copy()
    bush = np.hypot(grown[:, 0] - 40, grown[:, 1] - 40) < 3
    grown[bush, 2] += rng.uniform(0, 2.0, int(bush.sum()))
    analysis = analyse(pre, cloud(grown), stable_of(PAIR))
    (plant,) = at(analysis, Bump(40, 40, 3, 1.0))
    (earth,) = at(analysis, Bump(20, 20, 5, 0.8))
    assert plant.kind in ("vegetation", "object")
    assert plant.score < 0.5 <= earth.score
    assert earth.kind == "ground"


def test_filtered_ground_below_much_vegetation_counts_as_unseen() -> None:
    pre, post = clouds_of(scene(Bump(20, 20, 5, 0.8), density=40.0))
    under = np.hypot(post.points[:, 0] - 40, post.points[:, 1] - 40) < 3
    low = post.points.copy()
    low[under, 2] += 0.3  # what a filter leaves of a bush
    leaves = low[under] + [0, 0, 1.0]
    none = cloud(np.zeros((0, 3)))
    analysis = analyse(
        pre, cloud(low), stable_of(PAIR), above=(none, cloud(leaves)), method="morphological ground filter"
    )
    assert at(analysis, Bump(40, 40, 3, 1.0)) == []
    assert len(at(analysis, Bump(20, 20, 5, 0.8))) == 1


def test_a_cell_may_be_given() -> None:
    analysis = analyse_scene(PAIR, cell=1.25)
    assert analysis.difference.raster.cell == 1.25
    assert len(analysis.hulls) == 2


def test_registration_in_plan_is_not_reported_as_a_datum() -> None:
    moved = replace(moved_by(0.2), dof=("x", "y", "z", "roll", "pitch", "yaw"))
    pre, post = clouds_of(PAIR)
    analysis = analyse(pre, cloud(post.points - [0, 0, 0.2]), stable_of(PAIR), registration=moved)
    assert "STABLE_GROUND_OFFSET" not in [n.code for n in analysis.warnings]
