"""Our height differences against CloudCompare's 2.5-D volume, on the same grid."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.scenes import ORIGIN, Bump, Scene, hills
from pipeline.volume_change.comparison.difference import compare, surface
from pipeline.volume_change.types import Difference, Raster
from tests.crosschecks.tools import Array, cloudcompare_volume
from tests.pipeline.volume_change.pairs import cloud

SIZE = 60
CELL = 1.0
GAP = 9.5  # m from the site to a mark, which puts the borders of CloudCompare's cells on whole metres
BUMPS = (Bump(15, 20, 8, 1.2), Bump(42, 15, 6, -0.8), Bump(35, 42, 12, -1.5))
TRUTH = sum(bump.volume for bump in BUMPS)
RELIEF = hills(relief=8.0)


def marked(points: Array) -> Array:
    """Add two lone points outside, equal in both surveys: they carry no volume and fix where the grid begins."""
    return np.vstack([points, [[-GAP, -GAP, 0.0], [SIZE + GAP, SIZE + GAP, 0.0]]])


def ours(pre: Array, post: Array) -> Difference:
    edge = GAP + CELL / 2
    cells = round((SIZE + 2 * edge) / CELL)
    raster = Raster(-edge, -edge, CELL, cells, cells)
    return compare(surface(cloud(pre), raster), surface(cloud(post), raster), raster)


def volumes(diff: Difference) -> tuple[float, float, float]:
    """Net, fill and cut cell by cell, as CloudCompare counts them."""
    change = diff.change[np.isfinite(diff.change)] * CELL**2
    return float(change.sum()), float(change.clip(min=0).sum()), float(-change.clip(max=0).sum())


def test_the_same_cells_give_the_same_volumes(tmp_path: Path) -> None:
    # Nine points a cell, symmetric about its centre: the mean offset is 0, so there is no slope to take off, and both
    # tools average the same heights.
    rng = np.random.default_rng(5)
    x, y = ((v.ravel() + 0.5) / 3 for v in np.meshgrid(np.arange(3 * SIZE), np.arange(3 * SIZE)))
    ground = RELIEF(x, y)
    risen = ground + sum(bump(x, y) for bump in BUMPS)
    pre, post = (marked(np.column_stack([x, y, z + rng.normal(0, 0.03, len(x))])) for z in (ground, risen))
    theirs = cloudcompare_volume(pre, post, CELL, tmp_path)
    net, fill, cut = volumes(ours(pre, post))
    # CloudCompare keeps single precision: each height is off by 2⁻²⁴ of its size, and so is each step of a sum of nine.
    rounding = SIZE**2 * 2 * 10 * 2.0**-24 * np.abs(post[:, 2]).max()
    assert rounding < 0.1  # m³, of some 450 that moved
    assert (net, fill, cut) == pytest.approx((theirs.net, theirs.fill, theirs.cut), abs=rounding)
    assert theirs.area == pytest.approx(SIZE**2 + 2 * CELL**2)


class Sampled:
    """Two independent samples of a slope, and what theory says of the two ways to sum them.

    The variance of a plain mean of n points in a cell is (σ² + g² c²/12) / n: noise, and where on the slope g the
    points happened to fall. Taking the slope off removes the second part. What the noise of the fitted slope adds is of
    the order σ²/n², and left out.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        scene = Scene("slope", RELIEF, BUMPS, size=SIZE, density=10, noise=0.03, seed=seed)
        pre, post = (points - ORIGIN for points in scene.clouds())
        self.diff = ours(marked(pre), marked(post))
        self.theirs = cloudcompare_volume(marked(pre), marked(post), CELL, folder)
        self.noise, self.slope = 0.0, 0.0
        for points, changes in ((pre, ()), (post, BUMPS)):
            per_cell, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=SIZE, range=[[0, SIZE], [0, SIZE]])
            self.noise += float((scene.noise**2 / per_cell[per_cell > 0]).sum()) * CELL**4
            gx, gy = gradient(changes)
            steepness = (gx**2 + gy**2)[per_cell > 0] * CELL**2 / 12
            self.slope += float((steepness / per_cell[per_cell > 0]).sum()) * CELL**4


def gradient(changes: tuple[Bump, ...]) -> tuple[Array, Array]:
    x, y = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)

    def height(x: Array, y: Array) -> Array:
        return RELIEF(x, y) + sum((change(x, y) for change in changes), np.zeros_like(x))

    h = 1e-4
    return (height(x + h, y) - height(x - h, y)) / (2 * h), (height(x, y + h) - height(x, y - h)) / (2 * h)


@pytest.fixture(scope="module", params=[1, 2, 3])
def sampled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sampled:
    return Sampled(tmp_path_factory.mktemp("cloudcompare"), request.param)


FOUR = 4.0  # standard deviations: chance alone breaks one of 15,000 such bounds


def test_both_count_the_same_cells(sampled: Sampled) -> None:
    assert np.isfinite(sampled.diff.change).sum() * CELL**2 == pytest.approx(sampled.theirs.area)


def test_the_tools_differ_by_where_on_the_slope_the_points_fell(sampled: Sampled) -> None:
    net, _, _ = volumes(sampled.diff)
    assert abs(net - sampled.theirs.net) <= FOUR * sampled.slope**0.5


def test_ours_errs_by_the_noise_of_the_points(sampled: Sampled) -> None:
    net, _, _ = volumes(sampled.diff)
    assert abs(net - TRUTH) <= FOUR * sampled.noise**0.5


def test_theirs_errs_by_noise_and_slope(sampled: Sampled) -> None:
    assert abs(sampled.theirs.net - TRUTH) <= FOUR * (sampled.noise + sampled.slope) ** 0.5
    assert sampled.slope > 4 * sampled.noise  # so ours is more than twice as sure here
