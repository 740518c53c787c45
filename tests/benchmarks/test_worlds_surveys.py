"""What surveys of a world are made of: independent epochs, errors of known size, known motion, feet, cover."""

import numpy as np
import pytest
from shapely import Polygon

from benchmarks.worlds.changes import Cone, inside
from benchmarks.worlds.cover import GROUND, Cover, Plant, Thing
from benchmarks.worlds.errors import Errors, correlated, stripes
from benchmarks.worlds.kinds import FIT, JUDGE, world
from benchmarks.worlds.world import US_FOOT, rigid


def height_left(name: str, index: int) -> list[np.ndarray]:
    """What each epoch's points deviate from the true ground, m."""
    pair = world("judge", name, index)
    return [
        points[:, 2] - pair.height(points[:, 0], points[:, 1], later=later)
        for later in (False, True)
        for points, _ in [pair.sample(later=later)]
    ]


def test_the_same_world_is_drawn_twice_alike_and_its_epochs_share_no_point() -> None:
    once, again = (world("judge", "beach", 3) for _ in range(2))
    pre, post = (once.sample(later=later)[0] for later in (False, True))
    np.testing.assert_array_equal(pre, again.sample(later=False)[0])
    np.testing.assert_array_equal(once.motion, again.motion)
    n = min(len(pre), len(post))
    assert abs(np.corrcoef(pre[:n, 0], post[:n, 0])[0, 1]) < 5 / np.sqrt(n)
    assert len(np.intersect1d(pre[:, 0], post[:, 0])) == 0
    assert not np.array_equal(pre[:n], world("judge", "beach", 4).sample(later=False)[0][:n])


def test_the_noise_of_both_epochs_is_white_independent_and_as_large_as_said() -> None:
    pair = world("judge", "hills", 0)
    for left, survey in zip(height_left("hills", 0), (pair.pre, pair.post), strict=True):
        assert left.std() == pytest.approx(survey.errors.white, rel=0.03)
        assert abs(left.mean()) < 5 * survey.errors.white / np.sqrt(len(left))
    one, other = (left[:20_000] for left in height_left("hills", 0))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.04


@pytest.mark.parametrize("form", ["gauss", "exponential"])
def test_correlated_error_has_variance_one_and_falls_to_1_over_e_at_its_range(form: str) -> None:
    reach, draws = 10.0, 300
    apart = np.array([0.0, 2.5, 5.0, 10.0, 20.0])
    x, y = np.meshgrid(apart, np.array([0.0, 80.0]))
    fields = np.array(
        [correlated(x.ravel(), y.ravel(), reach, form, np.random.default_rng(seed)) for seed in range(draws)]
    ).reshape(draws, 2, len(apart))
    covariance = (fields[:, :, :1] * fields).mean(axis=(0, 1))
    ideal = np.exp(-((apart / reach) ** 2)) if form == "gauss" else np.exp(-apart / reach)
    # 600 pairs: a standard error of about 0.06; what the exponential form leaves out adds up to 0.08
    np.testing.assert_allclose(covariance, ideal, atol=0.2)
    assert abs((fields[:, 0, 0] * fields[:, 1, 0]).mean()) < 0.2


def test_flight_lines_have_variance_one_and_steps_between_them() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 400, (2, 5000))
    drawn = [stripes(x, y, 25.0, np.random.default_rng(seed)) for seed in range(200)]
    assert np.mean([each.var() + each.mean() ** 2 for each in drawn]) == pytest.approx(1.0, abs=0.1)


def test_doming_bends_the_survey_by_what_is_said() -> None:
    x, y = np.array([50.0, 0.0, 100.0]), np.array([50.0, 0.0, 100.0])
    for seed in range(10):
        bent = Errors(dome=0.1).shared(x, y, 100.0, np.random.default_rng(seed))
        assert 0.03 < abs(bent[0] - bent[1:].mean()) < 0.14
        assert np.sign(bent[0]) != np.sign(bent[1:].mean())


@pytest.mark.parametrize("name", ["hills", "yard, yaw ±180°, local coordinates", "embankment, partial overlap, datum"])
def test_the_known_motion_undone_leaves_no_registration_error(name: str) -> None:
    pair = world("judge", name, 2)
    surveys = pair.surveys()
    shift = np.eye(4)
    shift[:3, 3] = pair.origin - surveys.origin
    middle = np.eye(4)
    middle[:3, 3] = pair.size / 2, pair.size / 2, 0
    delivered = shift @ middle @ pair.motion @ np.linalg.inv(middle) @ np.linalg.inv(shift)
    in_space, along = pair.registration_error(np.linalg.inv(delivered), surveys.origin)
    assert in_space < 1e-7
    true = pair.sample(later=True)[0] + (pair.origin - surveys.origin)
    back = surveys.post.points @ np.linalg.inv(delivered)[:3, :3].T + np.linalg.inv(delivered)[:3, 3]
    np.testing.assert_allclose(back, true, atol=1e-7)
    raised = np.eye(4)
    raised[2, 3] = 0.01
    assert pair.registration_error(raised @ np.linalg.inv(delivered), surveys.origin)[0] == pytest.approx(0.01)
    assert along < 1e-7


def test_motions_are_as_large_as_their_kind_says() -> None:
    for name, yaw, shift, tilt in (("hills", 1.0, 0.9, 0.3), ("quarry, yaw ±180°, shift ≤ 100 m", 180.0, 105.0, 5.1)):
        for index in range(20):
            motion = world("judge", name, index).motion
            assert np.degrees(np.arccos(min(motion[2, 2], 1.0))) <= tilt
            assert np.linalg.norm(motion[:3, 3]) <= shift
            assert abs(np.degrees(np.arctan2(motion[1, 0], motion[0, 0]))) <= yaw + 0.01
            np.testing.assert_allclose(motion[:3, :3] @ motion[:3, :3].T, np.eye(3), atol=1e-12)
    assert rigid(90, (0, 0), (1, 2, 3))[:3] == pytest.approx(np.array([[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3]]))


def test_surveys_in_feet_come_back_in_metres() -> None:
    pair = world("judge", "hills, feet", 0)
    surveys = pair.surveys()
    assert surveys.unit == "US survey foot"
    true = pair.sample(later=False)[0]
    read = surveys.pre.points + surveys.origin - pair.origin
    assert len(read) == len(true)
    np.testing.assert_allclose(read.min(axis=0), true.min(axis=0), atol=US_FOOT * 1e-3)
    np.testing.assert_allclose(np.sort(read[:, 2]), np.sort(true[:, 2]), atol=US_FOOT * 1e-3)
    assert surveys.stable.area == pytest.approx(pair.stable.area, rel=1e-6)


def test_surveys_overlap_as_far_as_their_kind_says() -> None:
    for index in range(5):
        pair = world("judge", "embankment, partial overlap, datum", index)
        assert 0.5 <= pair.overlap() <= 0.8
        pre, post = (pair.sample(later=later)[0] for later in (False, True))
        assert pre[:, 0].min() < -0.1 * pair.size
        assert post[:, 0].max() > 1.1 * pair.size


def test_densities_and_sizes_are_as_said() -> None:
    for table, which in ((FIT, "fit"), (JUDGE, "judge")):
        for name, kind in table.items():
            pair = world(which, name, 0)
            for survey in (pair.pre, pair.post):
                x0, y0, x1, y1 = survey.bounds
                assert 15_000 <= survey.density * (x1 - x0) * (y1 - y0) <= 410_000, name
            coarser = min(pair.pre.density, pair.post.density)
            assert kind.density[0] <= coarser <= kind.density[1]
            assert max(pair.pre.density, pair.post.density) <= coarser * kind.ratio[1] * 1.0001


def test_a_vehicle_hides_the_ground_and_a_tree_lets_some_through() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0, 20, (2, 40_000))
    cover = Cover((Plant(5, 5, 3, 8, True, 0.3),), (Thing(14, 14, 6, 2.5, 2, 0.7),), ((5.0, 15.0, 4.0, 0.2),))
    up, classes = cover.stand(x, y, rng)
    on = np.hypot(x - 5, y - 5) < 3
    assert np.mean(classes[on] == GROUND) == pytest.approx(0.3, abs=0.05)
    assert up[on & (classes != GROUND)].min() > 0.3 * 8
    under = cover.things[0].outline.buffer(-0.05)
    assert isinstance(under, Polygon)
    assert (classes[inside(under, x, y)] != GROUND).all()
    assert up[(classes == GROUND)].max() == 0
    assert up[inside(cover.things[0].outline.buffer(-0.2), x, y)].min() > 0.55 * 2  # low points on its sides only
    grass = np.hypot(x - 5, y - 15) < 4
    assert 0.5 < np.mean(up[grass] > 0) < 0.7
    assert up[grass].max() < 0.2


def test_what_stands_there_in_one_epoch_only_is_no_change() -> None:
    pair = world("judge", "yard, vehicles, no change", 0)
    assert pair.truths == ()
    assert pair.pre.cover.things != pair.post.cover.things
    assert pair.pre.cover.things or pair.post.cover.things


def test_cover_and_holes_leave_the_changes_to_be_seen() -> None:
    for name in ("quarry, plants and vehicles", "yard, holes"):
        pair = world("judge", name, 0)
        for change in pair.changes:
            for survey in (pair.pre, pair.post):
                assert survey.cover.machines.disjoint(change.outline(0.0))
    pair = world("judge", "yard, holes", 0)
    first = pair.changes[0].outline(0.0)
    within = [h for h in pair.pre.holes if Cone(h[0], h[1], h[2], 1.0).outline(0.0).within(first)]
    assert len(within) == 1
    points = pair.sample(later=False)[0]
    assert all((np.hypot(points[:, 0] - x, points[:, 1] - y) >= r - 1e-9).all() for x, y, r in pair.pre.holes)
