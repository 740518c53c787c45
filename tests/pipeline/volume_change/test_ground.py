from pathlib import Path

import laspy
import numpy as np
import pytest

from benchmarks.scenes import ORIGIN, SIX_CHANGES, Bump, Plateau, Scene, Surface, flat, hills, quarry
from pipeline.clouds import PointCloud
from pipeline.errors import InputInvalid
from pipeline.volume_change.ground import select_ground
from pipeline.volume_change.ground_filter import ground_surface

SAMPLE = Path(__file__).resolve().parents[3] / "app" / "samples" / "ttp"
RNG_SEED = 5


def ground_mask(points, spacing):
    """Return which points are ground, and which lie above it."""
    told = ground_surface(PointCloud(points, ORIGIN), spacing).tell(points)
    return told == 1, told == 2


def survey(surface: Surface, classes: np.ndarray | None = None, **settings: object) -> PointCloud:
    scene = Scene("ground", surface, **({"density": 20.0, "size": 80.0} | settings))
    return PointCloud(np.ascontiguousarray(scene.clouds()[1] - ORIGIN), ORIGIN, classes)


def grown(cloud: PointCloud, surface: Surface) -> tuple[PointCloud, np.ndarray, np.ndarray]:
    """Plant trees and park cars; returns the cloud and which points belong to them."""
    rng = np.random.default_rng(RNG_SEED)
    points = cloud.points.copy()
    trees, cars = np.zeros((2, len(points)), dtype=bool)
    for x, y, radius in rng.uniform((5, 5, 1), (75, 75, 3.5), (15, 3)):
        crown = (np.hypot(points[:, 0] - x, points[:, 1] - y) < radius) & (rng.uniform(size=len(points)) < 0.6)
        points[crown, 2] += rng.uniform(0.8, 7, crown.sum())
        trees |= crown
    for x, y in rng.uniform(10, 70, (3, 2)):
        car = (np.abs(points[:, 0] - x) < 2.2) & (np.abs(points[:, 1] - y) < 0.9)
        points[car, 2] = surface(np.array([x]), np.array([y]))[0] + 1.5
        trees &= ~car
        cars |= car
    return PointCloud(points, ORIGIN), trees, cars


@pytest.mark.parametrize("density", [0.2, 12, 60])
@pytest.mark.parametrize(
    "surface", [hills(), hills(relief=30), quarry(), flat()], ids=["hills", "steep", "quarry", "flat"]
)
def test_bare_ground_stays(surface: Surface, density: float) -> None:
    cloud = survey(surface, density=density, size=300.0 if density < 1 else 70.0)
    kept = select_ground(cloud, cloud, "filter").pre
    # Benches of 5 m on faces 2 m wide cannot be told from walls by points that are 2 m apart.
    limit = 0.25 if density < 1 and surface.__qualname__.startswith("quarry") else 0.02
    assert 1 - len(kept) / len(cloud) <= limit


def test_noisy_ground_stays() -> None:
    cloud = survey(quarry(), noise=0.08)
    assert len(select_ground(cloud, cloud, "filter").pre) >= 0.98 * len(cloud)


def test_earthworks_are_ground() -> None:
    pile = Bump(40, 40, 9, 6.0)
    cloud = survey(hills(), changes=(pile, Plateau(20, 60, 4, -1.5), Plateau(60, 20, 5, 2.0), *SIX_CHANGES[:2]))
    mask, _ = ground_mask(cloud.points, 0.22)
    moved = sum(np.abs(c(*cloud.points[:, :2].T)) for c in (pile, Plateau(20, 60, 4, 1.5), Plateau(60, 20, 5, 2.0))) > 0
    assert mask[moved].mean() > 0.98


@pytest.mark.parametrize("height", [0.5, -0.7, 1.2])
def test_the_brink_of_a_sharp_edge_is_ground(height: float) -> None:
    slab = Plateau(40, 40, 3, height)
    cloud = survey(hills(), changes=(slab,))
    mask, _ = ground_mask(cloud.points, 0.22)
    rim = np.abs(np.hypot(cloud.points[:, 0] - slab.x, cloud.points[:, 1] - slab.y) - slab.radius) < 0.3
    assert mask[rim].mean() > 0.99


@pytest.mark.parametrize("surface", [hills(), quarry()], ids=["hills", "quarry"])
def test_trees_and_cars_are_not_ground(surface: Surface) -> None:
    cloud, trees, cars = grown(survey(surface), surface)
    ground, above = ground_mask(cloud.points, 0.22)
    assert ground[~trees & ~cars].mean() > 0.98
    assert above[trees].mean() > 0.95
    assert above[cars].mean() > 0.95


def test_echoes_from_below_are_neither_ground_nor_above_it() -> None:
    cloud = survey(hills())
    points = cloud.points.copy()
    points[::2000, 2] -= 15
    ground, above = ground_mask(points, 0.22)
    stray = np.zeros(len(points), dtype=bool)
    stray[::2000] = True
    assert not (ground | above)[stray].any()
    assert ground[~stray].mean() > 0.98


def test_one_stray_point_far_away_costs_no_memory() -> None:
    cloud = survey(hills())
    ground, _ = ground_mask(np.vstack([cloud.points, [[1e8, 1e8, 0]]]), 0.22)
    assert ground[:-1].mean() > 0.98


def test_ground_classes_are_used_where_both_surveys_have_them() -> None:
    cloud = survey(flat())
    classes = np.resize(np.array([2, 2, 2, 8, 5, 9, 7, 18, 1], dtype=np.uint8), len(cloud))
    told = PointCloud(cloud.points, ORIGIN, classes)
    result = select_ground(told, told)
    assert result.method == "classified ground (class 2)"
    assert set(result.post.classes.tolist()) == {2, 8}
    assert set(result.post_above.classes.tolist()) == {1, 5}
    assert result.notices == ()


def test_when_one_survey_is_not_classified_both_are_filtered_and_the_user_is_told() -> None:
    cloud = survey(flat())
    told = PointCloud(cloud.points, ORIGIN, np.full(len(cloud), 2, np.uint8))
    result = select_ground(told, cloud)
    assert result.method == "morphological ground filter"
    assert [n.code for n in result.notices] == ["GROUND_CLASSES_UNUSED"]


def test_classes_that_mean_different_things_are_noticed() -> None:
    pre = laspy.read(SAMPLE / "pre_2015.laz")
    post = laspy.read(SAMPLE / "post_2023.laz")
    clouds = [PointCloud(las.xyz - las.xyz[0], las.xyz[0], np.asarray(las.classification)) for las in (pre, post)]
    result = select_ground(*clouds)
    assert len(result.pre) == 45_955  # class 2 of the file, counted by hand
    assert len(result.post) == 41_915
    (notice,) = result.notices
    assert notice.code == "CLASSES_DIFFER"
    assert "reference survey: 3, 4, 5; only in the later one: 9" in notice.message


def test_a_ground_share_three_times_larger_is_noticed() -> None:
    cloud = survey(flat())
    much = np.full(len(cloud), 2, np.uint8)
    little = np.where(np.arange(len(cloud)) % 5 == 0, 2, 1).astype(np.uint8)
    result = select_ground(PointCloud(cloud.points, ORIGIN, much), PointCloud(cloud.points, ORIGIN, little))
    assert "GROUND_SHARE_DIFFERS" in {n.code for n in result.notices}


def test_asking_for_classes_that_are_not_there_is_refused() -> None:
    cloud = survey(flat(), density=2.0)
    with pytest.raises(InputInvalid, match="no points classified as ground") as refusal:
        select_ground(cloud, cloud, "classified")
    assert refusal.value.label == "pre"
    assert refusal.value.remedy


def test_all_means_every_point_but_noise() -> None:
    cloud = survey(flat(), density=2.0)
    classes = np.resize(np.array([1, 5, 7, 18], dtype=np.uint8), len(cloud))
    result = select_ground(PointCloud(cloud.points, ORIGIN, classes), cloud, "all")
    assert set(result.pre.classes.tolist()) == {1, 5}
    assert len(result.post) == len(cloud)
    assert len(result.pre_above) == len(result.post_above) == 0


def test_a_handful_of_points_at_one_place_is_left_alone() -> None:
    cloud = PointCloud(np.ones((10, 3)), ORIGIN)
    assert len(select_ground(cloud, cloud, "filter").pre) == 10
