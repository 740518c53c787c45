"""Which pose is taken: shifts that only slopes show, ground that repeats itself, sites that mostly changed."""

import numpy as np
import pytest
from numpy.typing import NDArray
from shapely import MultiPolygon, box

from benchmarks.scenes import ORIGIN, Bump, Plateau, Scene, Surface, hills
from pipeline.clouds import PointCloud
from pipeline.errors import RegistrationFailed
from pipeline.volume_change.register import register
from pipeline.volume_change.types import Registration

Array = NDArray[np.float64]
NOWHERE = MultiPolygon()
HEAPS = ((12, 14, 1.6), (33, 9, 1.2), (47, 30, 1.8), (24, 44, 1.5), (10, 48, 1.3), (45, 50, 1.7))
SIZE = 60.0
NOISE = 0.02  # m, of one point


def yard(worn: float = 0.0, gone: tuple[int, ...] = ()) -> Surface:
    """Heaps at the angle of repose on level ground; ``worn`` metres are dug off their eastern flanks."""

    def z(x: Array, y: Array) -> Array:
        total = np.zeros_like(x)
        for k, (at, north, high) in enumerate(HEAPS):
            if k not in gone:
                east = np.where(x > at, worn, 0.0)
                total = np.maximum(total, high - np.hypot(x - at + east, y - north) * np.tan(np.radians(37)))
        return total

    return z


def moved(shift: tuple[float, float, float], yaw: float = 0.0) -> Array:
    a = np.radians(yaw)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    matrix[:3, 3] = shift
    return matrix


def cloud(surface: Surface, seed: int, motion: Array, density: float = 30.0, size: float = SIZE) -> PointCloud:
    """An independent sample of the surface, moved about the middle of the site."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, size, (2, int(density * size**2)))
    points = np.column_stack([x, y, surface(x, y) + rng.normal(0, NOISE, len(x))])
    middle = np.array([size / 2, size / 2, 0])
    return PointCloud((points - middle) @ motion[:3, :3].T + motion[:3, 3] + middle, ORIGIN)


def left_of(found: Registration, motion: Array, size: float = SIZE) -> float:
    """How far corners and middle of the site are still from where they were, metres, at most."""
    middle = np.array([size / 2, size / 2, 0])
    site = np.array([[0, 0, 0], [size, 0, 0], [0, size, 0], [size, size, 0], middle])
    delivered = (site - middle) @ motion[:3, :3].T + motion[:3, 3] + middle
    back = delivered @ found.matrix[:3, :3].T + found.matrix[:3, 3]
    return float(np.linalg.norm(back - site, axis=1).max())


def test_a_shift_that_only_a_few_heaps_show_on_much_level_ground_is_found() -> None:
    motion = moved((0.4, -0.3, 0.15))
    found = register(cloud(yard(), 1, np.eye(4)), cloud(yard(), 2, motion), NOWHERE)
    # 500 mm as delivered. Flanks cover 2 % of the site; by Cramér and Rao 1 mm, 3 mm in the corners, is the least.
    assert left_of(found, motion) <= NOISE
    assert found.method == "robust M3C2 fit"


def test_heaps_that_were_dug_off_on_one_side_do_not_move_the_survey() -> None:
    found = register(cloud(yard(), 1, np.eye(4)), cloud(yard(worn=0.4), 2, np.eye(4)), NOWHERE)
    assert np.array_equal(found.matrix[:2, 3], [0.0, 0.0])
    assert found.method.startswith("identity")


def test_heaps_that_were_taken_away_do_not_move_the_survey() -> None:
    found = register(cloud(yard(), 1, np.eye(4)), cloud(yard(gone=(1, 3, 4, 5)), 2, np.eye(4)), NOWHERE)
    assert np.array_equal(found.matrix[:2, 3], [0.0, 0.0])


def test_a_shift_is_found_though_some_heaps_were_taken_away() -> None:
    motion = moved((0.4, -0.3, 0.15))
    found = register(cloud(yard(), 1, np.eye(4)), cloud(yard(gone=(3,)), 2, motion), NOWHERE)
    assert left_of(found, motion) <= NOISE


def test_level_ground_alone_does_not_keep_a_survey_that_lies_elsewhere() -> None:
    # As delivered, a corner of each survey lies on the other, and level ground agrees with level ground.
    motion = moved((30.0, 25.0, 0.1), 160.0)
    found = register(cloud(yard(), 1, np.eye(4)), cloud(yard(), 2, motion), NOWHERE)
    assert left_of(found, motion) <= NOISE
    assert "POSITION_UNCONFIRMED" not in {notice.code for notice in found.warnings}


def test_a_yard_whose_heaps_were_all_moved_stays_and_is_said_to_be_unconfirmed() -> None:
    def emptied(x: Array, y: Array) -> Array:
        return np.maximum(0.0, 1.9 - np.hypot(x - 22, y - 26) * np.tan(np.radians(37)))

    found = register(cloud(yard(), 1, np.eye(4)), cloud(emptied, 2, np.eye(4)), NOWHERE)
    assert np.array_equal(found.matrix[:2, 3], [0.0, 0.0])
    assert "POSITION_UNCONFIRMED" in {notice.code for notice in found.warnings}


def test_where_most_of_the_site_changed_its_stable_part_shows_the_way() -> None:
    motion = moved((0.4, 0.45, 0.2), 0.6)
    cut = (Plateau(38, 30, 20, -1.5), Bump(40, 30, 18, -3.0))
    scene = Scene("cut", hills(seed=4), cut, size=SIZE, density=30, motion=motion, seed=3)
    pre, post = (PointCloud(points - ORIGIN, ORIGIN) for points in scene.clouds())
    found = register(pre, post, MultiPolygon([box(0, 0, 8, SIZE)]))
    assert left_of(found, motion) <= 0.03


def benches(rough: float) -> Surface:
    """Equal benches of 5 m, 12 m wide; ``rough`` is the height of the waves that tell one from another."""

    def z(x: Array, y: Array) -> Array:
        u = (x + 2 * np.sin(y / 15)) / 12
        step = np.floor(u)
        return 5 * (step + np.clip((u - step) / 0.2, 0, 1)) + rough * np.sin(x / 3) * np.cos(y / 4)

    return z


FAR = moved((60.0, -35.0, 3.0), 140.0)


def test_benches_that_are_alike_but_for_ripples_are_put_on_the_right_one() -> None:
    found = register(cloud(benches(0.12), 1, np.eye(4), 15.0), cloud(benches(0.12), 2, FAR, 15.0), NOWHERE)
    assert left_of(found, FAR) <= NOISE


def test_benches_that_are_alike_are_refused_because_the_site_repeats_itself() -> None:
    # Half the later survey fits one bench further on, and 5 m higher, exactly as well.
    later = cloud(benches(0.0), 2, np.eye(4), 15.0)
    part = PointCloud(later.points[later.points[:, 0] < 40] @ FAR[:3, :3].T + FAR[:3, 3], ORIGIN)
    with pytest.raises(RegistrationFailed, match="several places") as refused:
        register(cloud(benches(0.0), 1, np.eye(4), 15.0), part, NOWHERE)
    assert refused.value.details["agreement"] > 0.6


def test_benches_that_are_alike_stay_where_they_were_delivered_if_they_fit_there() -> None:
    motion = moved((0.3, 0.2, 0.1))
    found = register(cloud(benches(0.0), 1, np.eye(4), 15.0), cloud(benches(0.0), 2, motion, 15.0), NOWHERE)
    assert np.hypot(*found.matrix[:2, 3]) < 1.0
