"""What moved: shapes whose height change, volume and outline are closed forms.

Every shape is a height change dz(x, y) that is added to the ground, so its volume is ∫ dz whatever the terrain.
Lengths in metres, volumes in m³, cut negative. ``outline(t)`` is where |dz| > t; ``outline(0)`` is the exact footprint.
Polygons of circles have 720 corners and the circle's exact area.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from shapely import LineString, MultiPolygon, Polygon, affinity, box, contains_xy

Array = NDArray[np.float64]
Bounds = tuple[float, float, float, float]  # x0, y0, x1, y1
Shape = Polygon | MultiPolygon
OBSERVABLE = 0.02  # m: a change that is lower than this is no part of the footprint that outlines are held against
_CUT_OFF = 4.0  # sd at which a Gaussian ends


class Change(Protocol):
    """One change of known volume."""

    height: float  # of its highest or (negative) lowest part

    @property
    def volume(self) -> float: ...

    def __call__(self, x: Array, y: Array) -> Array: ...

    def outline(self, above: float) -> Shape: ...


def disc(x: float, y: float, radius: float) -> Polygon:
    """A circle as a polygon of the same area; empty if the radius is not positive."""
    if radius <= 0:
        return Polygon()
    corners = 720
    radius *= np.sqrt(2 * np.pi / corners / np.sin(2 * np.pi / corners))
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return Polygon(np.column_stack([x + radius * np.cos(turn), y + radius * np.sin(turn)]))


@dataclass(frozen=True)
class Cosine:
    """A mound or pit h cos²(πr/2R): V = h R² (π/2 − 2/π)."""

    x: float
    y: float
    radius: float
    height: float

    @property
    def volume(self) -> float:
        return self.height * self.radius**2 * (np.pi / 2 - 2 / np.pi)

    def __call__(self, x: Array, y: Array) -> Array:
        r = np.hypot(x - self.x, y - self.y) / self.radius
        return np.where(r < 1, self.height * np.cos(np.pi / 2 * r) ** 2, 0.0)

    def outline(self, above: float) -> Polygon:
        share = min(above / abs(self.height), 1.0)
        return disc(self.x, self.y, self.radius * 2 / np.pi * np.arccos(np.sqrt(share)))


@dataclass(frozen=True)
class Gauss:
    """A mound or pit h exp(−r²/2s²), ending at 4 s: V = 2π s² h (1 − e⁻⁸)."""

    x: float
    y: float
    sd: float
    height: float

    @property
    def volume(self) -> float:
        return 2 * np.pi * self.sd**2 * self.height * -float(np.expm1(-(_CUT_OFF**2) / 2))

    def __call__(self, x: Array, y: Array) -> Array:
        r2 = ((x - self.x) ** 2 + (y - self.y) ** 2) / self.sd**2
        return np.where(r2 < _CUT_OFF**2, self.height * np.exp(-r2 / 2), 0.0)

    def outline(self, above: float) -> Polygon:
        share = max(above / abs(self.height), np.exp(-(_CUT_OFF**2) / 2))
        return disc(self.x, self.y, self.sd * np.sqrt(max(-2 * np.log(share), 0.0)))


@dataclass(frozen=True)
class Cone:
    """A round frustum (heap or pit) of base radius R, its sides at ``slope`` (rise over run; inf = a disc with walls).

    V = h π (R² + R r + r²) / 3, with the top's radius r = R − |h| / slope.
    """

    x: float
    y: float
    radius: float
    height: float
    slope: float = np.inf

    @property
    def volume(self) -> float:
        top = self.radius - abs(self.height) / self.slope
        if top < 0:
            raise ValueError("the sides meet below the top")
        return float(self.height * np.pi * (self.radius**2 + self.radius * top + top**2) / 3)

    def __call__(self, x: Array, y: Array) -> Array:
        return _walled(self.radius - np.hypot(x - self.x, y - self.y), self.height, self.slope)

    def outline(self, above: float) -> Polygon:
        return disc(self.x, self.y, self.radius - above / self.slope if above < abs(self.height) else 0.0)


@dataclass(frozen=True)
class Block:
    """A frustum over a turned rectangle; with ``slope`` = inf a slab with sharp edges.

    With i = |h| / slope: V = h (a b − (a + b) i + 4 i² / 3), a sum over its levels.
    """

    x: float
    y: float
    length: float
    width: float
    angle: float  # radians, of the length against x
    height: float
    slope: float = np.inf

    @property
    def volume(self) -> float:
        inset = abs(self.height) / self.slope
        if 2 * inset > min(self.length, self.width):
            raise ValueError("the sides meet below the top")
        return self.height * (self.length * self.width - (self.length + self.width) * inset + 4 / 3 * inset**2)

    def __call__(self, x: Array, y: Array) -> Array:
        u, v = _turned(x - self.x, y - self.y, -self.angle)
        inside = np.minimum(self.length / 2 - np.abs(u), self.width / 2 - np.abs(v))
        return _walled(inside, self.height, self.slope)

    def outline(self, above: float) -> Polygon:
        if above >= abs(self.height):
            return Polygon()
        half = self.length / 2 - above / self.slope, self.width / 2 - above / self.slope
        turned = affinity.rotate(box(-half[0], -half[1], *half), self.angle, origin=(0, 0), use_radians=True)
        return affinity.translate(turned, self.x, self.y)


@dataclass(frozen=True)
class Trench:
    """A trench or dam along leg, arc, leg; trapezoid section, upright ends; (x, y) is where the arc begins.

    By Pappus V = h (w − |h| / slope) · length of the centre line: the section is symmetric and the arc wider than it.
    """

    x: float
    y: float
    angle: float  # radians, of the first leg against x
    legs: tuple[float, float]
    bend: float  # radians, left > 0
    bend_radius: float
    width: float
    height: float
    slope: float = np.inf

    @property
    def length(self) -> float:
        return sum(self.legs) + abs(self.bend) * self.bend_radius

    @property
    def volume(self) -> float:
        base = self.width - 2 * abs(self.height) / self.slope
        if base < 0 or (self.bend and self.bend_radius < self.width / 2):
            raise ValueError("the walls meet above the bottom, or the bend is too sharp")
        return self.height * (self.width + base) / 2 * self.length

    def __call__(self, x: Array, y: Array) -> Array:
        u, v = _turned(x - self.x, y - self.y, -self.angle)
        v = v * np.copysign(1.0, self.bend)  # mirrored so that it turns left
        bend, r = abs(self.bend), self.bend_radius
        inside = np.where((u >= -self.legs[0]) & (u < 0), self.width / 2 - np.abs(v), -1.0)
        along = np.arctan2(u, r - v) % (2 * np.pi)
        arc = self.width / 2 - np.abs(np.hypot(u, v - r) - r)
        inside = np.where((along < bend) & (u >= 0) | (along < bend) & (arc > inside), np.maximum(arc, inside), inside)
        p, q = _turned(u - r * np.sin(bend), v - r * (1 - np.cos(bend)), -bend)
        last = np.where((p >= 0) & (p <= self.legs[1]), self.width / 2 - np.abs(q), -1.0)
        return _walled(np.maximum(inside, last), self.height, self.slope)

    def outline(self, above: float) -> Polygon:
        if above >= abs(self.height):
            return Polygon()
        turn = np.linspace(0, abs(self.bend), 1 + int(abs(self.bend) / np.radians(0.5)))
        u, v = self.bend_radius * np.sin(turn), self.bend_radius * (1 - np.cos(turn))
        end = abs(self.bend)
        u = np.concatenate([[-self.legs[0]], u, [u[-1] + self.legs[1] * np.cos(end)]])
        v = np.concatenate([[0.0], v, [v[-1] + self.legs[1] * np.sin(end)]]) * np.copysign(1.0, self.bend)
        x, y = _turned(u, v, self.angle)
        centre = LineString(np.column_stack([x + self.x, y + self.y]))
        line = centre.buffer(self.width / 2 - above / self.slope, cap_style="flat", join_style="mitre")
        assert isinstance(line, Polygon)
        return line


@dataclass(frozen=True)
class Truth:
    """A change as far as both surveys show it: ``bounds`` is the rectangle that both cover."""

    change: Change
    bounds: Bounds

    @property
    def whole(self) -> bool:
        return bool(box(*self.bounds).contains(self.change.outline(0.0)))

    @cached_property
    def volume(self) -> float:
        """m³ inside the bounds: exact where the change lies within or has walls, else by quadrature (error < 1e-4)."""
        return self.change.volume if self.whole else integral(self.change, self.bounds)

    @cached_property
    def footprint(self) -> Shape:
        """Where |dz| > 2 cm, inside the bounds."""
        return self.above(OBSERVABLE)

    @cached_property
    def exact(self) -> Shape:
        """Where dz is not zero, inside the bounds."""
        return self.above(0.0)

    def above(self, height: float) -> Shape:
        """Where |dz| > ``height``, inside the bounds."""
        return _polygonal(self.change.outline(height).intersection(box(*self.bounds)))


def integral(change: Change, bounds: Bounds) -> float:
    """∫ dz over a rectangle: by area for sharp walls, else by Gauss–Legendre in 240 × 240 panels of 3 × 3 nodes."""
    shape = change.outline(0.0)
    inside = _polygonal(shape.intersection(box(*bounds)))
    if getattr(change, "slope", 0.0) == np.inf:
        return change.height * inside.area
    if inside.is_empty:
        return 0.0
    x0, y0, x1, y1 = inside.bounds
    nodes, weights = np.polynomial.legendre.leggauss(3)
    panels = 240
    at = ((np.arange(panels)[:, None] + (nodes + 1) / 2) / panels).ravel()
    weight = np.tile(weights / 2 / panels, panels)
    x, y = np.meshgrid(x0 + at * (x1 - x0), y0 + at * (y1 - y0))
    return float(weight @ change(x, y) @ weight) * (x1 - x0) * (y1 - y0)


def inside(shape: Shape, x: Array, y: Array) -> NDArray[np.bool_]:
    """Which points lie in a polygon, shape of x."""
    return np.asarray(contains_xy(shape, x, y))


def _polygonal(shape: object) -> Shape:
    if isinstance(shape, Polygon | MultiPolygon):
        return shape
    parts = [p for p in getattr(shape, "geoms", ()) if isinstance(p, Polygon)]
    return MultiPolygon(parts)


def _turned(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
    c, s = np.cos(angle), np.sin(angle)
    return c * x - s * y, s * x + c * y


def _walled(inside: Array, height: float, slope: float) -> Array:
    """Height change at a distance ``inside`` of the rim, whose wall rises with ``slope``."""
    if np.isinf(slope):
        return np.where(inside > 0, height, 0.0)
    return np.asarray(np.sign(height) * np.clip(inside * slope, 0, abs(height)))
