"""One pair of surveys with everything that is true about it, and the surveys as the pipeline gets them."""

import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import laspy
import numpy as np
from numpy.typing import NDArray
from pyproj import CRS
from shapely import MultiPolygon, affinity, box

from benchmarks.scenes import write_polygons
from benchmarks.worlds.changes import Bounds, Change, Truth
from benchmarks.worlds.cover import Cover
from benchmarks.worlds.errors import Errors
from benchmarks.worlds.terrain import Surface
from pipeline.clouds import PointCloud
from pipeline.volume_change.read import read_surveys
from pipeline.volume_change.types import Surveys

Array = NDArray[np.float64]
Hole = tuple[float, float, float]  # x, y, radius
US_FOOT = 1200 / 3937
FEET_CRS = CRS.from_epsg(2263)  # New York Long Island, US survey feet
Expected = Literal["result", "refusal", "either"]


@dataclass(frozen=True)
class Survey:
    """What one epoch covers, and how well."""

    bounds: Bounds
    density: float  # points per m²
    errors: Errors
    cover: Cover = field(default_factory=Cover)
    holes: tuple[Hole, ...] = ()


@dataclass(frozen=True)
class World:
    """A pair of surveys; coordinates are true metres, (0, 0) to (size, size) being what both cover.

    Args:
        kind: Name of its row in the tables of ``kinds``.
        index: Its number within the kind.
        surface: The ground before.
        later: The ground that the later survey stands on before the changes: another one for an impostor.
        changes: What moved, added to the ground; disjoint.
        pre, post: The two epochs.
        size: Edge of the common square, m.
        motion: 4 × 4, true → delivered coordinates of the later survey, about the square's middle.
        origin: Map coordinates of (0, 0, 0), m.
        stable: Polygons of ground that did not move.
        classified: Whether points carry ASPRS classes (one in a hundred wrong).
        feet: Whether the surveys are delivered in US survey feet, as files.
        expected: Whether a result or a refusal is right.
        seed: What the points are drawn from.
    """

    kind: str
    index: int
    surface: Surface
    later: Surface
    changes: tuple[Change, ...]
    pre: Survey
    post: Survey
    size: float
    motion: Array
    origin: Array
    stable: MultiPolygon
    seed: tuple[int, ...]
    classified: bool = False
    feet: bool = False
    expected: Expected = "result"

    @cached_property
    def truths(self) -> tuple[Truth, ...]:
        return tuple(Truth(change, (0.0, 0.0, self.size, self.size)) for change in self.changes)

    @property
    def cell(self) -> float:
        """Edge of a cell with nine points of the coarser survey, m."""
        return 3 / float(np.sqrt(min(self.pre.density, self.post.density)))

    @property
    def lod95(self) -> float:
        """Level of detection of one such cell at 95 %, from the errors as they were drawn, m."""
        variance = 0.0
        for survey in (self.pre, self.post):
            e = survey.errors
            variance += e.white**2 / (self.cell**2 * survey.density) + e.correlated**2 + e.stripes**2 + e.dome**2 / 12
        return 1.96 * float(np.sqrt(variance))

    def height(self, x: Array, y: Array, *, later: bool) -> Array:
        """The true ground, m."""
        z = (self.later if later else self.surface)(x, y)
        for change in self.changes if later else ():
            z = z + change(x, y)
        return np.asarray(z)

    def sample(self, *, later: bool) -> tuple[Array, NDArray[np.uint8]]:
        """Draw one epoch in true coordinates: points, shape (n, 3), m, and their true classes."""
        survey = self.post if later else self.pre
        rng = np.random.default_rng([*self.seed, int(later)])
        x0, y0, x1, y1 = survey.bounds
        n = int(survey.density * (x1 - x0) * (y1 - y0))
        x, y = rng.uniform(x0, x1, n), rng.uniform(y0, y1, n)
        for hx, hy, radius in survey.holes:
            keep = (x - hx) ** 2 + (y - hy) ** 2 > radius**2
            x, y = x[keep], y[keep]
        up, classes = survey.cover.stand(x, y, rng)
        z = self.height(x, y, later=later) + up
        z += survey.errors.shared(x, y, self.size, rng) + rng.normal(0, survey.errors.white, len(x))
        if survey.errors.horizontal:
            x, y = (
                x + rng.normal(0, survey.errors.horizontal, len(x)),
                y + rng.normal(0, survey.errors.horizontal, len(x)),
            )
        return np.column_stack([x, y, z]), classes

    def delivered(self, points: Array) -> Array:
        """True coordinates of the later survey as its georeferencing has them, shape (n, 3), m."""
        middle = np.array([self.size / 2, self.size / 2, 0.0])
        return (points - middle) @ self.motion[:3, :3].T + self.motion[:3, 3] + middle

    def surveys(self) -> Surveys:
        """The pair as the first stage of a run hands it on."""
        pre, pre_classes = self.sample(later=False)
        post, post_classes = self.sample(later=True)
        post = self.delivered(post)
        if self.feet:
            return self._through_files(pre, post)
        zero = np.floor((pre.min(axis=0) + self.origin) / 100) * 100
        shift = self.origin - zero
        clouds = []
        for points, classes, name in ((pre, pre_classes, "pre"), (post, post_classes, "post")):
            told = self._told(classes, name) if self.classified else None
            clouds.append(PointCloud(np.ascontiguousarray(points + shift), zero, told, name=name))
        stable = affinity.translate(self.stable, shift[0], shift[1])
        return Surveys(*clouds, stable)

    def _told(self, classes: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
        """Classes as a classifier gives them: one in a hundred confused with unclassified."""
        rng = np.random.default_rng([*self.seed, 2, len(name)])
        return np.where(rng.random(len(classes)) < 0.01, 1, classes).astype(np.uint8)

    def _through_files(self, pre: Array, post: Array) -> Surveys:
        with tempfile.TemporaryDirectory() as folder:
            paths = {label: Path(folder) / name for label, name in
                     (("pre", "pre.las"), ("post", "post.las"), ("shp", "stable.shp"))}  # fmt: skip
            for label, points in (("pre", pre), ("post", post)):
                _write_feet(paths[label], (points + self.origin) / US_FOOT)
            rings = [
                [(float(x), float(y)) for x, y in (np.array(part.exterior.coords) + self.origin[:2]) / US_FOOT]
                for part in self.stable.geoms
            ]
            write_polygons(paths["shp"], [ring[::-1] for ring in rings])  # shapefiles run clockwise
            return read_surveys(paths)

    def registration_error(self, matrix: Array, origin: Array) -> tuple[float, float]:
        """What a registration left over the common square, RMS, m: in space, and along the ground's normals.

        Args:
            matrix: 4 × 4, delivered → reference, local coordinates.
            origin: Map coordinates of the local zero, m, shape (3,).

        The second is what volumes feel: on flat ground a horizontal shift cannot be observed, nor does it matter.
        """
        side = (np.arange(40) + 0.5) / 40 * self.size
        x, y = (grid.ravel() for grid in np.meshgrid(side, side))
        true = np.column_stack([x, y, self.surface(x, y)])
        shift = self.origin - origin
        moved = (self.delivered(true) + shift) @ matrix[:3, :3].T + matrix[:3, 3]
        left = moved - (true + shift)
        step = self.cell
        normal = np.column_stack([
            -(self.surface(x + step, y) - self.surface(x - step, y)) / (2 * step),
            -(self.surface(x, y + step) - self.surface(x, y - step)) / (2 * step),
            np.ones(len(x)),
        ])  # fmt: skip
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        along = (left * normal).sum(axis=1)
        return float(np.sqrt((left**2).sum(axis=1).mean())), float(np.sqrt((along**2).mean()))

    def overlap(self) -> float:
        """Share of the smaller survey that both cover."""
        areas = [box(*survey.bounds).area for survey in (self.pre, self.post)]
        return float(box(*self.pre.bounds).intersection(box(*self.post.bounds)).area / min(areas))


def rigid(yaw: float, tilt: tuple[float, float], shift: tuple[float, float, float]) -> Array:
    """A motion by turns about z, then x and y (degrees), and a shift (m), 4 × 4."""
    c, s = np.cos(np.radians([yaw, *tilt])), np.sin(np.radians([yaw, *tilt]))
    about_z = np.array([[c[0], -s[0], 0], [s[0], c[0], 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, c[1], -s[1]], [0, s[1], c[1]]])
    about_y = np.array([[c[2], 0, s[2]], [0, 1, 0], [-s[2], 0, c[2]]])
    motion = np.eye(4)
    motion[:3, :3] = about_y @ about_x @ about_z
    motion[:3, 3] = shift
    return motion


def _write_feet(path: Path, points: Array) -> None:
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.offsets, header.scales = np.floor(points.min(axis=0)), np.full(3, 0.001)
    header.add_crs(FEET_CRS)
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = points.T
    cloud.write(path)
