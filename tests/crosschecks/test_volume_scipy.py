"""Our height differences against the prisms between two triangulations by SciPy."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator
from scipy.ndimage import convolve
from scipy.spatial import Delaunay

from app import samples
from benchmarks.scenes import ORIGIN, Bump, Scene, Surface, hills
from pipeline.volume_change.comparison.difference import choose_cell, common_raster, compare, surface
from pipeline.volume_change.ground import select_ground
from pipeline.volume_change.read import read_surveys
from pipeline.volume_change.register import register
from pipeline.volume_change.types import Difference, Raster
from tests.crosschecks.tools import Array
from tests.pipeline.volume_change.pairs import cloud

SIZE = 60.0
BUMPS = (Bump(15, 20, 8, 1.2), Bump(42, 15, 6, -0.8), Bump(35, 42, 12, -1.5))
TRUTH = sum(bump.volume for bump in BUMPS)
FOUR = 4.0  # standard deviations
LONGEST = 2.0  # cells: longer edges of triangles cross what a survey did not see
SAMPLE = Path(samples.__file__).parent / "ttp"


class Prisms:
    """The volume under a triangulated survey.

    Args:
        points: Shape (n, 3); their hull in plan is the site.
    """

    def __init__(self, points: Array) -> None:
        self.mesh = Delaunay(points[:, :2])
        self.points = points
        a, b, c = (points[self.mesh.simplices[:, k], :2] for k in range(3))
        self.areas: Array = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
        self.longest: Array = np.max([np.linalg.norm(p - q, axis=1) for p, q in ((a, b), (b, c), (c, a))], axis=0)

    @property
    def weights(self) -> Array:
        """m² that each point stands for: a third of the triangles around it; the volume is linear in the heights."""
        shares = np.repeat(self.areas / 3, 3)
        return np.bincount(self.mesh.simplices.ravel(), weights=shares, minlength=len(self.points))

    def at(self, x: Array, y: Array) -> Array:
        """Heights at the places x × y; NaN outside and in triangles whose area was set to 0."""
        places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        inside = self.mesh.find_simplex(places)
        heights: Array = LinearNDInterpolator(self.mesh, self.points[:, 2])(places)
        heights[(inside < 0) | (self.areas[inside] == 0)] = np.nan
        return heights.reshape(len(y), len(x))

    @property
    def volume(self) -> float:
        return float(self.weights @ self.points[:, 2])


def framed(points: Array, height: Surface) -> Array:
    """Add the true border of the site, a point every half metre, so that both triangulations cover the same square."""
    t = np.arange(0, SIZE, 0.5)
    border = np.vstack([(t, 0 * t), (0 * t + SIZE, t), (SIZE - t, 0 * t + SIZE), (0 * t, SIZE - t)])
    x, y = border.reshape(4, 2, -1).transpose(1, 0, 2).reshape(2, -1)
    return np.vstack([points, np.column_stack([x, y, height(x, y)])])


def ours(pre: Array, post: Array, cell: float) -> Difference:
    cells = round(SIZE / cell)
    raster = Raster(0.0, 0.0, cell, cells, cells)
    return compare(surface(cloud(pre), raster), surface(cloud(post), raster), raster)


def test_two_planes_enclose_what_geometry_says() -> None:
    rng = np.random.default_rng(2)

    def low(x: Array, y: Array) -> Array:
        return 0.3 * x - 0.2 * y

    def high(x: Array, y: Array) -> Array:
        return 0.28 * x - 0.17 * y + 1.5

    clouds = [rng.uniform(0, SIZE, (40_000, 3)) for _ in range(2)]
    for points, plane in zip(clouds, (low, high), strict=True):
        points[:, 2] = plane(points[:, 0], points[:, 1])
    diff = ours(*clouds, 1.0)
    prisms = [Prisms(framed(cloud, plane)).volume for cloud, plane in zip(clouds, (low, high), strict=True)]
    exact = (high(SIZE / 2, SIZE / 2) - low(SIZE / 2, SIZE / 2)) * SIZE**2  # the height in the middle times the area
    assert np.isfinite(diff.change).all()
    # Rounding: heights of some 30 m over 3600 m², in sums of 40,000 terms.
    assert prisms[1] - prisms[0] == pytest.approx(exact, abs=40_000 * np.finfo(float).eps * 30 * SIZE**2)
    # Ours adds one point's worth of scatter to the slope's fit, which so comes out too flat by 1 in as many as the
    # 3 × 3 cells hold. That multiplies the points' mean offset, whose variance is cell²/12n along the slope.
    left = 0.0
    for points, steepness in zip(clouds, (0.3**2 + 0.2**2, 0.28**2 + 0.17**2), strict=True):
        count, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=int(SIZE), range=[[0, SIZE], [0, SIZE]])
        about = convolve(np.maximum(count - 1, 0), np.ones((3, 3)), mode="constant")
        left += float((steepness / (about + 1) ** 2 / (12 * count)).sum())
    assert left**0.5 < 1e-5 * exact
    assert diff.change.sum() == pytest.approx(exact, abs=FOUR * left**0.5)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_volumes_between_noisy_surveys_differ_by_their_noise(seed: int) -> None:
    relief = hills(relief=8.0)
    scene = Scene("prisms", relief, BUMPS, size=SIZE, density=10, noise=0.03, seed=seed)
    pre, post = (points - ORIGIN for points in scene.clouds())
    first, second = (Prisms(framed(points, relief)) for points in (pre, post))
    theirs = second.volume - first.volume
    diff = ours(pre, post, 1.0)
    net = float(np.nansum(diff.change))
    assert np.isfinite(diff.change).mean() > 0.999  # a cell with ten points is empty once in 22,000 times
    # A sum of heights with weights w has the variance σ² Σ w²; the points of the frame have no noise.
    noise = scene.noise**2 * sum(float((p.weights[: -4 * 120] ** 2).sum()) for p in (first, second))
    # A flat triangle with edges up to L misses a surface of curvature M by at most M L²/6, as a circle of radius L/√3
    # holds it. Its mean cancels between both surveys, since the bumps' slopes end in 0; the rest is independent.
    bend = max(bump_curvature(bump) for bump in BUMPS) + curvature(relief)
    missed = sum(float(((p.areas * bend * p.longest**2 / 6) ** 2).sum()) for p in (first, second))
    cells = float((diff.variance[np.isfinite(diff.variance)]).sum())  # cells of 1 m²
    assert abs(theirs - TRUTH) <= FOUR * (noise + missed) ** 0.5
    assert abs(net - theirs) <= FOUR * (noise + missed + cells) ** 0.5


def bump_curvature(bump: Bump) -> float:
    """The largest second derivative of a cosine-squared mound: h π²/(2R²), at its top."""
    return abs(bump.height) * np.pi**2 / (2 * bump.radius**2)


def curvature(terrain: Surface) -> float:
    """The largest second derivative of a terrain, along any direction."""
    h = 1e-2
    x, y = np.meshgrid(np.arange(0, SIZE, 0.5), np.arange(0, SIZE, 0.5))
    mid = terrain(x, y)
    xx = (terrain(x + h, y) - 2 * mid + terrain(x - h, y)) / h**2
    yy = (terrain(x, y + h) - 2 * mid + terrain(x, y - h)) / h**2
    xy = (terrain(x + h, y + h) - terrain(x + h, y - h) - terrain(x - h, y + h) + terrain(x - h, y - h)) / (4 * h**2)
    return float((np.abs(xx + yy) / 2 + np.sqrt((xx - yy) ** 2 / 4 + xy**2)).max())


@dataclass(frozen=True)
class Park:
    """The bundled real pair, aligned, cell by cell: ours, and the triangulations' where they have the whole cell."""

    diff: Difference
    prisms: Array
    whole: NDArray[np.bool_]
    prisms_sd: float  # m³, of the triangulations' net


@pytest.fixture(scope="module")
def park() -> Park:
    names = {"pre": "pre_2015.laz", "post": "post_2023.laz", "shp": "stable_area.shp", "shx": "stable_area.shx"}
    surveys = read_surveys({label: SAMPLE / name for label, name in names.items()})
    ground = select_ground(surveys.pre, surveys.post)
    found = register(ground.pre, ground.post, surveys.stable)
    clouds = [cloud(alone(survey.points)) for survey in (ground.pre, ground.post.moved(found.matrix))]
    cell = choose_cell(*(survey.spacing() for survey in clouds))
    raster = common_raster(*clouds, cell)
    grids = [surface(survey, raster) for survey in clouds]
    diff = compare(*grids, raster)
    fine = 6  # places along each edge of a cell
    x = raster.x0 + (np.arange(raster.cols * fine) + 0.5) * cell / fine
    y = raster.y0 + (np.arange(raster.rows * fine) + 0.5) * cell / fine
    heights, variance = [], 0.0
    for survey, grid in zip(clouds, grids, strict=True):
        prisms = Prisms(survey.points)
        prisms.areas[prisms.longest > LONGEST * cell] = 0.0  # these bridge water
        heights.append(prisms.at(x, y))
        variance += float(np.nanmedian(grid.scatter) * (prisms.weights**2).sum())
    change = (heights[1] - heights[0]).reshape(raster.rows, fine, raster.cols, fine).transpose(0, 2, 1, 3)
    change = change.reshape(*diff.change.shape, -1)
    whole = np.isfinite(change).all(axis=2) & np.isfinite(diff.change)
    return Park(diff, np.where(whole, change.sum(axis=2) / fine**2, np.nan), whole, variance**0.5)


def alone(points: Array) -> Array:
    """Leave out points that share their place in plan with another."""
    _, first = np.unique(points[:, :2], axis=0, return_index=True)
    return np.ascontiguousarray(points[first])


def test_on_real_ground_both_give_the_same_net_where_both_saw_all_of_a_cell(park: Park) -> None:
    area = park.diff.raster.cell**2
    ours_net = area * float(park.diff.change[park.whole].sum())
    theirs_net = area * float(park.prisms[park.whole].sum())
    ours_sd = area * float(park.diff.variance[park.whole].sum()) ** 0.5
    # Both weigh the same points, so their errors are alike; to take them as independent is on the safe side.
    bound = FOUR * float(np.hypot(ours_sd, park.prisms_sd))
    assert park.whole.sum() > 3000
    assert abs(ours_net - theirs_net) <= bound
    assert bound < 0.1 * area * float(np.abs(park.diff.change[park.whole]).sum())  # so the bound says something
