"""What the ground filter took is looked at again where it may be earth."""

import numpy as np
import pytest
from shapely import MultiPolygon, box

from pipeline.clouds import PointCloud
from pipeline.volume_change.comparison.difference import common_raster, surface
from pipeline.volume_change.comparison.standing import Standing, put_back, see_above
from pipeline.volume_change.detect import detect
from pipeline.volume_change.ground import Ground, select_ground
from pipeline.volume_change.register import register
from pipeline.volume_change.types import Analysis, Surveys
from tests.pipeline.volume_change.pairs import silent

SIZE, DENSITY, CELL = 40.0, 40, 0.5
HEAP = (18.0, 22.0, 19.0, 21.0)  # left, right, bottom, top: so narrow and so high that the filter takes it whole
HEIGHT, NOISE = 2.5, 0.02


def survey(seed: int, *, heap: float = 0.0, bush: float = 0.0, pit: float = 0.0) -> PointCloud:
    """A field with a heap between walls, a bush, and a pit with walls, where they are asked for."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, SIZE, (2, int(DENSITY * SIZE**2)))
    z = 0.1 * np.sin(x / 6) + rng.normal(0, NOISE, len(x))
    z += heap * ((x > HEAP[0]) & (x < HEAP[1]) & (y > HEAP[2]) & (y < HEAP[3]))
    crown = (np.hypot(x - 10, y - 30) < 1.8) & (rng.random(len(x)) < 0.8)
    z += bush * crown * rng.beta(3, 1, len(x))
    z -= pit * ((np.abs(x - 30) < 2.5) & (np.abs(y - 10) < 2.5))
    return PointCloud(np.column_stack([x, y, z]), np.zeros(3))


def standing(ground: Ground) -> tuple[Standing, Standing]:
    raster = common_raster(ground.pre, ground.post, CELL)
    surfaces = surface(ground.pre, raster), surface(ground.post, raster)
    above = see_above(ground.pre_above, surfaces[0], raster), see_above(ground.post_above, surfaces[1], raster)
    first, second = zip(surfaces, above, strict=True)
    return (
        put_back(ground.pre, ground.pre_above, first, second, raster),
        put_back(ground.post, ground.post_above, second, first, raster),
    )


def analysed(pre: PointCloud, post: PointCloud, mode: str = "filter") -> Analysis:
    stable = MultiPolygon([box(0, 0, SIZE, 4), box(0, 36, SIZE, SIZE)])
    ground = select_ground(pre, post, mode)
    registration = register(ground.pre, ground.post, stable, engine="none")
    return detect(Surveys(pre, post, stable), ground, registration, cell=CELL, min_score=0.0, report=silent)


@pytest.mark.parametrize("came", [True, False])
def test_a_heap_between_walls_that_the_filter_takes_whole_is_measured(came: bool) -> None:
    bare, heaped = survey(1), survey(2, heap=HEIGHT)
    taken = select_ground(bare, heaped, "filter").post_above
    volume = HEIGHT * (HEAP[1] - HEAP[0]) * (HEAP[3] - HEAP[2])
    assert len(taken) > 0.9 * DENSITY * volume / HEIGHT
    (hull,) = analysed(bare, heaped).hulls if came else analysed(heaped, bare).hulls
    low, high = hull.net_volume_ci95
    assert low <= (volume if came else -volume) <= high
    assert high - low < 0.15 * volume
    assert hull.score < 0.9  # a vehicle looks like that


def test_a_heap_that_both_surveys_show_is_left_to_the_filter() -> None:
    old, new = standing(select_ground(survey(1, heap=HEIGHT), survey(2, heap=HEIGHT), "filter"))
    assert not (old.whole | new.whole).any()
    assert old.doubtful.any()
    assert new.doubtful.any()


def test_a_bush_that_one_survey_shows_is_no_heap() -> None:
    _, new = standing(select_ground(survey(1), survey(2, bush=1.5), "filter"))
    assert not new.whole.any()
    assert new.doubtful[58:62, 18:22].all()


def test_brinks_that_the_filter_takes_are_put_back_where_the_other_survey_shows_ground_as_high() -> None:
    pre, post = survey(1), survey(2, pit=2.0)
    x, y, z = post.points.T
    # As a filter would that takes half of what stands beside the pit for objects.
    taken = (z > -1.0) & (np.maximum(np.abs(x - 30), np.abs(y - 10)) < 4) & (np.arange(len(post)) % 2 == 0)
    none = PointCloud(np.zeros((0, 3)), np.zeros(3))
    _, new = standing(Ground(pre, post.select(~taken), none, post.select(taken), "morphological ground filter"))
    raster = common_raster(pre, post.select(~taken), CELL)
    everything, left = surface(post, raster), surface(post.select(~taken), raster)
    back = left.count < everything.count
    assert back.sum() > 100
    np.testing.assert_array_equal(new.surface.count, everything.count)
    np.testing.assert_allclose(new.surface.height[back], everything.height[back], atol=1e-9)
    assert not new.doubtful.any()
