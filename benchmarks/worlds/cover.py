"""What stands on the ground and is no ground: grass, bushes, trees, vehicles, people. It may hide the ground."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from shapely import MultiPolygon, Point, Polygon, affinity, box, contains_xy, union_all

Array = NDArray[np.float64]
Classes = NDArray[np.uint8]
GROUND, LOW, HIGH, OTHER = 2, 3, 5, 1  # ASPRS classes


@dataclass(frozen=True)
class Plant:
    """A bush (crown from the ground) or a tree (crown from 0.35 of its height); ``seen`` of its points are ground."""

    x: float
    y: float
    radius: float
    height: float
    tree: bool
    seen: float


@dataclass(frozen=True)
class Thing:
    """A box with a lower front, such as a lorry; or a person. Everything below it is hidden."""

    x: float
    y: float
    length: float
    width: float
    height: float
    angle: float

    @property
    def outline(self) -> Polygon:
        half = box(-self.length / 2, -self.width / 2, self.length / 2, self.width / 2)
        turned = affinity.rotate(half, self.angle, origin=(0, 0), use_radians=True)
        return affinity.translate(turned, self.x, self.y)


@dataclass(frozen=True)
class Cover:
    """What stands on the ground in one epoch.

    Args:
        plants: Bushes and trees.
        things: Vehicles and people.
        meadows: Patches of grass: x, y, radius, height, m; two points in five are ground.
        bare: Ground without grass: worked soil.
    """

    plants: tuple[Plant, ...] = ()
    things: tuple[Thing, ...] = ()
    meadows: tuple[tuple[float, float, float, float], ...] = ()
    bare: MultiPolygon = field(default_factory=MultiPolygon)

    def stand(self, x: Array, y: Array, rng: np.random.Generator) -> tuple[Array, Classes]:
        """Draw the height above ground at each point, m, and its true class."""
        up, kind = np.zeros(len(x)), np.full(len(x), GROUND, dtype=np.uint8)
        for mx, my, radius, height in self.meadows:
            near = np.flatnonzero((np.hypot(x - mx, y - my) < radius) & (rng.random(len(x)) < 0.6))
            near = near[~_inside(self.bare, x[near], y[near])]
            up[near] = height * rng.beta(2, 2, len(near))
            kind[near] = LOW
        for plant in self.plants:
            near = np.flatnonzero((x - plant.x) ** 2 + (y - plant.y) ** 2 < plant.radius**2)
            near = near[rng.random(len(near)) >= plant.seen]
            r2 = ((x[near] - plant.x) ** 2 + (y[near] - plant.y) ** 2) / plant.radius**2
            top = plant.height * np.sqrt(np.maximum(1 - r2, 0.05))
            low = plant.height * 0.35 if plant.tree else 0.0
            up[near] = low + np.maximum(top - low, 0.2) * rng.beta(3, 1, len(near))  # most returns from the top
            kind[near] = HIGH if plant.tree else LOW
        for thing in self.things:
            c, s = np.cos(thing.angle), np.sin(thing.angle)
            u, v = c * (x - thing.x) + s * (y - thing.y), c * (y - thing.y) - s * (x - thing.x)
            near = np.flatnonzero((np.abs(u) < thing.length / 2) & (np.abs(v) < thing.width / 2))
            front = u[near] > 0.25 * thing.length
            up[near] = np.where(front, 0.6, 1.0) * thing.height + rng.normal(0, 0.02, len(near))
            to_rim = np.minimum(thing.length / 2 - np.abs(u[near]), thing.width / 2 - np.abs(v[near]))
            side = (to_rim < 0.15) & (rng.random(len(near)) < 0.4)  # points on its sides
            up[near[side]] *= rng.random(int(side.sum()))
            kind[near] = OTHER
        return up, kind

    @property
    def green(self) -> MultiPolygon:
        """Outline of all plants and grass."""
        rounds = [Point(p.x, p.y).buffer(p.radius) for p in self.plants]
        return _joined([*rounds, *(Point(x, y).buffer(r) for x, y, r, _ in self.meadows)])

    @property
    def machines(self) -> MultiPolygon:
        """Outline of all vehicles and people."""
        return _joined([thing.outline for thing in self.things])


def grown(plants: tuple[Plant, ...], rng: np.random.Generator) -> tuple[Plant, ...]:
    """The same plants at another time: up to 12 % larger, swayed by up to 0.2 m."""
    return tuple(
        Plant(p.x + sx, p.y + sy, p.radius * (1 + g), p.height * (1 + g), p.tree, p.seen)
        for p, (sx, sy), g in zip(
            plants, rng.uniform(-0.2, 0.2, (len(plants), 2)), rng.uniform(0, 0.12, len(plants)), strict=True
        )
    )


def _joined(shapes: list[Polygon]) -> MultiPolygon:
    joined = union_all(shapes)
    return joined if isinstance(joined, MultiPolygon) else MultiPolygon([joined] if not joined.is_empty else [])


def _inside(area: MultiPolygon, x: Array, y: Array) -> NDArray[np.bool_]:
    return np.asarray(contains_xy(area, x, y)) if not area.is_empty else np.zeros(len(x), dtype=bool)
