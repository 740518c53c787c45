"""Synthetic pairs of surveys with analytic truth.

Terrain and changes are closed-form functions of (x, y), so the moved volume of each change is known
exactly; pre and post are independent samples of the surface before and after.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import laspy
import numpy as np
import shapefile
from numpy.typing import NDArray

from benchmarks.worlds.changes import Cosine

ORIGIN = np.array([630_000.0, 4_830_000.0, 75.0])
Surface = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
Bump = Cosine


@dataclass(frozen=True)
class Plateau:
    """A slab with sharp edges, a disc of radius R: volume = height * pi * R²."""

    x: float
    y: float
    radius: float
    height: float

    @property
    def volume(self) -> float:
        return self.height * np.pi * self.radius**2

    def __call__(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(np.hypot(x - self.x, y - self.y) < self.radius, self.height, 0.0)


def hills(relief: float = 4.0, seed: int = 1) -> Surface:
    """Smooth random hills, a sum of waves 20–120 m long."""
    rng = np.random.default_rng(seed)
    waves = [(2 * np.pi / rng.uniform(20, 120), *rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.3, 1)) for _ in range(12)]

    def z(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.zeros_like(x)
        for k, direction, phase, weight in waves:
            total += weight / k * np.sin(k * (x * np.cos(direction) + y * np.sin(direction)) + phase)
        return relief * total / sum(w / k for k, _, _, w in waves) * 2

    return z


def quarry(bench: float = 5.0, width: float = 18.0) -> Surface:
    """Benches with faces of about 65°."""

    def z(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        u = (x + 0.3 * y + 3 * np.sin(y / 15)) / width
        step = np.floor(u) + np.clip((u - np.floor(u)) / 0.13, 0, 1)
        return bench * step + 0.15 * np.sin(x / 3) * np.cos(y / 4)

    return z


def flat(relief: float = 0.2) -> Surface:
    """A nearly flat field."""
    return lambda x, y: 0.01 * x + relief * np.sin(x / 17) * np.cos(y / 23)


@dataclass(frozen=True)
class Scene:
    """A pair of surveys; ``size`` × ``size`` metres, change at known places, stable corners."""

    name: str
    surface: Surface
    changes: tuple[Bump | Plateau, ...] = ()
    size: float = 130.0
    density: float = 60.0  # points per m²
    density_post: float | None = None
    noise: float = 0.03  # m, 1 sd, each epoch
    correlated: float = 0.0  # m, 1 sd of smooth error in each epoch
    correlation_range: float = 15.0  # m
    motion: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))  # applied to post, about the origin
    seed: int = 0
    margin: float = 15.0  # stable frame along the border

    def _sample(self, rng: np.random.Generator, density: float, changed: bool) -> NDArray[np.float64]:
        n = int(self.size**2 * density)
        x, y = rng.uniform(0, self.size, (2, n))
        z = self.surface(x, y)
        if changed:
            for change in self.changes:
                z = z + change(x, y)
        z = z + rng.normal(0, self.noise, n)
        if self.correlated:
            waves = 60
            k = rng.normal(0, 1.4 / self.correlation_range, (2, waves))
            phase = rng.uniform(0, 2 * np.pi, waves)
            for kx, ky, p in zip(*k, phase, strict=True):
                z += self.correlated * np.sqrt(2 / waves) * np.cos(kx * x + ky * y + p)
        return np.column_stack([x, y, z])

    def clouds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return pre and post in map coordinates, metres, shape (n, 3)."""
        rng = np.random.default_rng(self.seed)
        pre = self._sample(rng, self.density, changed=False)
        post = self._sample(rng, self.density_post or self.density, changed=True)
        centre = np.array([self.size / 2, self.size / 2, 0.0])
        post = (post - centre) @ self.motion[:3, :3].T + self.motion[:3, 3] + centre
        return pre + ORIGIN, post + ORIGIN

    def stable_rings(self) -> list[list[tuple[float, float]]]:
        """Return the stable frame as four rectangles in map coordinates."""
        s, m = self.size, self.margin
        boxes = [(0, 0, s, m), (0, s - m, s, s), (0, m, m, s - m), (s - m, m, s, s - m)]
        return [
            [(x0 + ORIGIN[0], y0 + ORIGIN[1]), (x0 + ORIGIN[0], y1 + ORIGIN[1]), (x1 + ORIGIN[0], y1 + ORIGIN[1]),
             (x1 + ORIGIN[0], y0 + ORIGIN[1]), (x0 + ORIGIN[0], y0 + ORIGIN[1])]
            for x0, y0, x1, y1 in boxes
        ]  # fmt: skip

    def write(self, folder: Path, suffix: str = ".laz") -> tuple[Path, Path, Path]:
        """Write pre, post and the stable shapefile (.shp + .shx only)."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = (folder / f"pre{suffix}", folder / f"post{suffix}", folder / "stable.shp")
        for path, points in zip(paths, self.clouds(), strict=False):
            write_las(path, points)
        write_polygons(paths[2], self.stable_rings())
        return paths


def write_las(path: Path, points: NDArray[np.float64], classes: NDArray[np.uint8] | None = None) -> None:
    """Write points (map coordinates, metres) with millimetre resolution."""
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.offsets = np.floor(points.min(axis=0)) if len(points) else np.zeros(3)
    header.scales = np.full(3, 0.001)
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = points.T
    if classes is not None:
        cloud.classification = classes
    cloud.write(path)


def write_polygons(path: Path, rings: list[list[tuple[float, float]]]) -> None:
    """Write a polygon shapefile as .shp + .shx, the two files that the service asks for."""
    with (
        path.open("wb") as shp,
        path.with_suffix(".shx").open("wb") as shx,
        shapefile.Writer(shp=shp, shx=shx) as writer,
    ):
        writer.shapeType = shapefile.POLYGON
        for ring in rings:
            writer.poly([ring])


SIX_CHANGES = (
    Bump(35, 40, 8, 1.2), Bump(90, 30, 5, -0.6), Bump(65, 65, 12, -1.5),
    Plateau(35, 90, 4, 0.5), Bump(95, 95, 6, 0.8), Plateau(100, 60, 3, -0.7),
)  # fmt: skip
