"""Horizontal motions that the ground shows, and those that long waves of error pretend."""

import numpy as np
import pytest
from numpy.typing import NDArray
from shapely import MultiPolygon

from benchmarks.scenes import ORIGIN, Scene, flat
from pipeline.clouds import PointCloud
from pipeline.volume_change.align.replicates import CRITICAL, HORIZONTAL, REPLICATES, hotelling
from pipeline.volume_change.register import register

DELIVERED = np.array([0.3, -0.25, 0.3])


def moved(shift: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    return matrix


def clouds(scene: Scene) -> tuple[PointCloud, PointCloud]:
    pre, post = (PointCloud(points - ORIGIN, ORIGIN) for points in scene.clouds())
    return pre, post


def test_the_critical_value_is_passed_by_one_in_a_hundred_sets_of_pure_chance() -> None:
    rng = np.random.default_rng(0)
    drawn = [hotelling(rng.normal(0, [1.0, 3.0, 0.2], (REPLICATES, HORIZONTAL))) > CRITICAL for _ in range(20_000)]
    # A share of 0.01 of 20,000 has a standard error of 0.0007.
    assert np.mean(drawn) == pytest.approx(0.01, abs=0.0021)


def test_parts_that_all_show_the_same_motion_pass_and_by_how_much_does_not_depend_on_its_unit() -> None:
    rng = np.random.default_rng(1)
    parts = np.array([0.3, -0.2, 0.1]) + rng.normal(0, 0.02, (REPLICATES, HORIZONTAL))
    assert hotelling(parts) > CRITICAL
    assert hotelling(parts * 1000) == pytest.approx(hotelling(parts))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_long_waves_of_error_on_a_level_field_do_not_move_it_sideways(seed: int) -> None:
    scene = Scene("waves", flat(0.1), noise=0.02, correlated=0.02, correlation_range=8.0, density=15, size=80.0,
                  motion=moved(DELIVERED), seed=seed)  # fmt: skip
    found = register(*clouds(scene), MultiPolygon())
    assert set(found.dof) <= {"z", "roll", "pitch"}
    # Four waves of 2 cm error a side, in each epoch, leave a height that is known to about 1 cm.
    assert found.matrix[2, 3] + found.matrix[2, :2] @ [40, 40] == pytest.approx(-DELIVERED[2], abs=0.03)


def test_a_shift_that_slopes_of_a_few_per_cent_show_is_found_though_most_of_the_ground_agrees_without() -> None:
    scene = Scene("swells", flat(1.2), noise=0.03, density=25, size=80.0, motion=moved(DELIVERED), seed=4)
    pre, post = clouds(scene)
    found = register(pre, post, MultiPolygon())
    assert {"x", "y"} <= set(found.dof)
    middle = np.array([40.0, 40.0, 0.0])
    back = found.matrix[:3, :3] @ (middle + DELIVERED) + found.matrix[:3, 3]
    assert np.linalg.norm(back - middle) <= 0.03  # 490 mm as delivered; the noise of one point
