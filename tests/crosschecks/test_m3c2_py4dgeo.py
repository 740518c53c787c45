"""Our M3C2 against py4dgeo, the reference implementation, at the same core points."""

from types import ModuleType

import numpy as np
import pytest
from scipy.spatial import cKDTree

from benchmarks.scenes import ORIGIN, SIX_CHANGES, Scene, Surface, hills, quarry
from pipeline.volume_change.comparison.m3c2 import FEWEST, NORMAL_RADIUS, RADIUS, TWO_SIDED, m3c2
from pipeline.volume_change.types import CorePoints
from tests.crosschecks.tools import Array, library

CELL = 0.9
HALF_LENGTH = 4 * CELL
SHARED_ERROR = 0.004
EPS = float(np.finfo(float).eps)


@pytest.fixture(scope="module")
def py4dgeo() -> ModuleType:
    return library("py4dgeo")


class Compared:
    """One pair, measured by both. Benches have faces that cylinders only graze; the surveys differ in density."""

    def __init__(self, py4dgeo: ModuleType, surface: Surface) -> None:
        scene = Scene("both", surface, SIX_CHANGES, density=20, density_post=9, seed=3)
        self.pre, self.post = (points - ORIGIN for points in scene.clouds())
        self.cores: Array = self.pre[np.random.default_rng(0).choice(len(self.pre), 4000, replace=False)]
        self.epochs = py4dgeo.Epoch(self.pre), py4dgeo.Epoch(self.post)
        self.ours: CorePoints = m3c2(
            self.pre, self.post, self.cores, cell=CELL, half_length=HALF_LENGTH, registration_error=SHARED_ERROR
        )
        cylinder = {"cyl_radius": RADIUS * CELL, "max_distance": HALF_LENGTH, "registration_error": SHARED_ERROR}
        common = {"epochs": self.epochs, "corepoints": self.cores, **cylinder}
        self.distance, self.uncertainty = py4dgeo.M3C2(corepoint_normals=self.ours.normals, **common).run()
        self.normals = py4dgeo.M3C2(normal_radii=[NORMAL_RADIUS * CELL], **common).directions()
        self.measured = np.isfinite(self.ours.distance)


@pytest.fixture(scope="module", params=[hills(), quarry()], ids=["hills", "quarry"])
def both(py4dgeo: ModuleType, request: pytest.FixtureRequest) -> Compared:
    return Compared(py4dgeo, request.param)


def test_distances_are_the_same(both: Compared) -> None:
    # Both average the same points: what is left is the rounding of two sums of n coordinates, each at most n ε |x|.
    n = max(both.uncertainty["num_samples1"].max(), both.uncertainty["num_samples2"].max())
    rounding = 2 * n * EPS * np.linalg.norm(both.pre, axis=1).max()
    assert rounding < 1e-9
    assert both.measured.mean() > 0.95
    assert np.abs(both.ours.distance - both.distance)[both.measured].max() <= rounding


def test_levels_of_detection_are_the_same(both: Compared) -> None:
    # A variance from sums of squares of lengths up to the half length is off by at most n ε h² each;
    # √a − √b = (a − b) / (√a + √b).
    found = both.uncertainty[both.measured]
    n1, n2 = found["num_samples1"], found["num_samples2"]
    error = both.uncertainty["lodetection"][both.measured] / TWO_SIDED - SHARED_ERROR
    rounding = 2 * (n1 * EPS * HALF_LENGTH**2 / n1 + n2 * EPS * HALF_LENGTH**2 / n2) / error
    off = np.abs(both.ours.lod95[both.measured] - found["lodetection"])
    assert (off <= TWO_SIDED * rounding + 4 * EPS).all()


def test_what_has_no_distance_has_too_few_points_by_both_counts(both: Compared) -> None:
    few = (both.uncertainty["num_samples1"] < FEWEST) | (both.uncertainty["num_samples2"] < FEWEST)
    assert np.array_equal(~both.measured, few)


def test_normals_are_the_same(both: Compared) -> None:
    # Rounding of the covariance, n ε r² / n, turns its eigenvector by at most that over the gap between the two least
    # eigenvalues (Davis and Kahan 1970), twice since both round.
    tree = cKDTree(both.pre)
    radius = NORMAL_RADIUS * CELL
    for core, ours, theirs in zip(both.cores[:500], both.ours.normals, both.normals, strict=False):
        near = both.pre[tree.query_ball_point(core, radius)]
        least, second, _ = np.linalg.eigvalsh(np.cov(near.T))
        # Theirs is about the origin, not about the core point: its products are as large as the coordinates' squares.
        rounding = 2 * len(near) * EPS * (core @ core) / (second - least)
        assert np.linalg.norm(np.cross(ours, theirs)) <= rounding
        assert ours @ theirs > 0
