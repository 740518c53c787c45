"""Ground that both surveys share: closed-form heights z(x, y), metres, so that it can be sampled at any point."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Surface = Callable[[Array, Array], Array]


def hills(rng: np.random.Generator, size: float) -> Surface:
    """Fractal hills: 48 waves from the site's size down to 6 m, height ∝ wavelength^1.1 (a Hurst exponent of 0.6)."""
    lengths = np.geomspace(6.0, max(size, 60.0), 48)
    direction, phase = rng.uniform(0, 2 * np.pi, (2, len(lengths)))
    height = lengths**1.1
    height *= rng.uniform(0.02, 0.05) * size / np.sqrt((height**2).sum() / 2)
    kx, ky = 2 * np.pi / lengths * np.cos(direction), 2 * np.pi / lengths * np.sin(direction)

    def z(x: Array, y: Array) -> Array:
        total = np.zeros(np.shape(x))
        for h, a, b, p in zip(height, kx, ky, phase, strict=True):
            total += h * np.sin(a * x + b * y + p)
        return total

    return z


def terraces(rng: np.random.Generator, size: float) -> Surface:
    """Equal benches 4–6 m high with faces of about 65°: a bench further on and a bench higher it looks the same."""
    bench, width = rng.uniform(4, 6), max(rng.uniform(0.16, 0.24) * size, 12.0)
    run = bench / np.tan(np.radians(65)) / width
    lean, bow, phase = rng.uniform(-0.3, 0.3), rng.uniform(1, 4), rng.uniform(0, 6)

    def z(x: Array, y: Array) -> Array:
        u = (x + lean * y + bow * np.sin(y / 15 + phase)) / width
        step = np.floor(u)
        return np.asarray(bench * (step + np.clip((u - step) / run, 0, 1)) + 0.12 * np.sin(x / 3) * np.cos(y / 4))

    return z


def quarry(rng: np.random.Generator, size: float) -> Surface:
    """Benches of 12 m and more, each 3–6 m high and with its own course, faces of about 65°, and a rough floor."""
    widths = np.maximum(rng.uniform(0.14, 0.3, 24) * size, 12.0)
    edges = np.cumsum(widths) - 1.2 * size
    bench = rng.uniform(3, 6, 24)
    lean, phase = rng.uniform(-0.3, 0.3), rng.uniform(0, 6, (2, 24))
    bow = rng.uniform(0.5, 2.0, (2, 24))
    floor = hills(rng, size)

    def z(x: Array, y: Array) -> Array:
        total = 0.25 * floor(x, y)
        for at, high, (p, q), (a, b) in zip(edges, bench, phase.T, bow.T, strict=True):
            course = at - lean * y - a * np.sin(y / 15 + p) - b * np.sin(y / 6.5 + q)
            total = total + np.clip((x - course) * np.tan(np.radians(65)), 0, high)
        return np.asarray(total - bench[:8].sum())

    return z


def field(rng: np.random.Generator, size: float) -> Surface:
    """A nearly flat field: a slope of at most 1 % and swells of 5–25 cm."""
    slope, turn = rng.uniform(0, 0.01), rng.uniform(0, 2 * np.pi)
    swell, a, b = rng.uniform(0.05, 0.25), *(size / rng.uniform(4, 9, 2))
    return lambda x, y: np.asarray(
        slope * (x * np.cos(turn) + y * np.sin(turn)) + swell * np.sin(x / a) * np.cos(y / b + turn)
    )


def beach(rng: np.random.Generator, size: float) -> Surface:
    """A beach: foreshore of 2–5 %, a berm, a bar and a runnel that waver alongshore, small cusps."""
    slope, bar, berm = rng.uniform(0.02, 0.05), rng.uniform(0.25, 0.6), rng.uniform(0.4, 1.0)
    at, wide, wave = rng.uniform(0.25, 0.4) * size, rng.uniform(0.05, 0.08) * size, rng.uniform(0, 6)

    def z(x: Array, y: Array) -> Array:
        line = at + 0.03 * size * np.sin(2 * np.pi * y / size + wave)
        u = (x - line) / wide
        ridge = bar * np.exp(-(u**2) / 2) - 0.6 * bar * np.exp(-((u - 2.2) ** 2) / 2)
        crest = berm / (1 + np.exp(-(x - 0.7 * size) / (0.02 * size + 1)))
        return np.asarray(slope * x + ridge + crest + 0.06 * np.sin(2 * np.pi * y / 17 + wave) * np.exp(-(u**2) / 8))

    return z


def embankment(rng: np.random.Generator, size: float) -> Surface:
    """A road on an embankment with slopes of 1 : 1.5 and ditches, gently curving, over a leaning plain."""
    high, half = rng.uniform(2, 4), rng.uniform(3.5, 6)
    bow, lean = rng.uniform(-0.06, 0.06) * size, rng.uniform(-0.02, 0.02)

    def z(x: Array, y: Array) -> Array:
        away = np.abs(y - size / 2 - bow * np.sin(np.pi * x / size))
        road = np.clip(high - (away - half) / 1.5, 0, high)
        ditch = -0.6 * np.exp(-(((away - half - 1.5 * high - 2) / 1.2) ** 2) / 2)
        return np.asarray(road + ditch + lean * x + 0.15 * np.sin(x / 13) * np.cos(y / 11))

    return z


def yard(rng: np.random.Generator, size: float) -> Surface:
    """A stockpile yard: cones and frusta at the angle of repose (37°) that stand in both surveys, on a paved floor."""
    count, repose = 7, np.tan(np.radians(37))
    place = rng.uniform(0.08, 0.92, (count, 2)) * size
    high = rng.uniform(0.02, 0.05, count) * size
    top = np.where(rng.random(count) < 0.5, 0.0, rng.uniform(0.01, 0.05, count) * size)
    lean = rng.uniform(0.005, 0.015)

    def z(x: Array, y: Array) -> Array:
        total = lean * x
        for (cx, cy), h, t in zip(place, high, top, strict=True):  # where heaps meet the higher one is seen
            total = np.maximum(total, lean * x + np.clip(h - (np.hypot(x - cx, y - cy) - t) * repose, 0, h))
        return np.asarray(total)

    return z


TERRAINS: dict[str, Callable[[np.random.Generator, float], Surface]] = {
    "hills": hills, "quarry": quarry, "terraces": terraces, "field": field, "beach": beach, "embankment": embankment,
    "yard": yard,
}  # fmt: skip
