"""Sharp edges through the ground filter: an excavation keeps its whole volume."""

import numpy as np
import pytest
from shapely import MultiPolygon, Polygon

from benchmarks.scenes import ORIGIN, Plateau, Scene, hills
from pipeline.clouds import PointCloud
from pipeline.volume_change.detect import detect
from pipeline.volume_change.ground import select_ground
from pipeline.volume_change.register import register
from pipeline.volume_change.types import Surveys
from tests.pipeline.volume_change.pairs import silent


@pytest.mark.parametrize("height", [-3.0, -1.5, 2.0])
def test_a_wall_as_steep_as_can_be_takes_nothing_from_the_volume(height: float) -> None:
    slab = Plateau(40, 40, 3, height)
    scene = Scene("wall", hills(), (slab,), density=40, size=80.0, seed=3)
    pre, post = (PointCloud(np.ascontiguousarray(points - ORIGIN), ORIGIN) for points in scene.clouds())
    stable = MultiPolygon([Polygon(np.array(ring) - ORIGIN[:2]) for ring in scene.stable_rings()])
    ground = select_ground(pre, post, "filter")
    registration = register(ground.pre, ground.post, stable)
    analysis = detect(Surveys(pre, post, stable), ground, registration, cell=None, min_score=0.0, report=silent)
    (hull,) = analysis.hulls
    low, high = hull.net_volume_ci95
    assert low <= slab.volume <= high
    assert high - low < 0.1 * abs(slab.volume)
    assert hull.area == pytest.approx(np.pi * slab.radius**2, rel=0.1)
