"""Which changes a world gets, and where: motifs dealt to the quarters of the site, and what must stay clear of them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from shapely import MultiPolygon, Point, Polygon, box, union_all

from benchmarks.worlds.changes import Block, Change, Cone, Cosine, Gauss, Trench
from benchmarks.worlds.cover import Cover, Plant, Thing, grown
from benchmarks.worlds.world import Hole

Rng = np.random.Generator
Place = tuple[float, float]
SLOTS = ((0.31, 0.31), (0.69, 0.31), (0.31, 0.69), (0.69, 0.69))
UNITS = 45  # a site is this many units wide; changes are a few units wide


def height(rng: Rng, unit: float) -> float:
    """Of either sign, 0.25–1.6 m at a unit of one metre, more for larger shapes."""
    return float(rng.choice([-1, 1]) * rng.uniform(0.25, 1.6) * np.clip(np.sqrt(unit), 0.6, 2.5))


def mound(rng: Rng, at: Place, unit: float) -> list[Change]:
    radius = rng.uniform(3, 6) * unit
    if rng.random() < 0.5:
        return [Cosine(*at, radius, height(rng, unit))]
    return [Gauss(*at, radius / 3.5, height(rng, unit))]


def frustum(rng: Rng, at: Place, unit: float) -> list[Change]:
    h, radius = height(rng, unit), rng.uniform(3, 4.8) * unit
    slope = max(rng.uniform(0.4, 1.5), 1.3 * abs(h) / radius)
    if rng.random() < 0.5:
        return [Cone(*at, radius, h, slope)]
    return [
        Block(*at, 2 * radius, rng.uniform(1.4, 2) * radius, rng.uniform(0, np.pi), h, max(slope, 2 * abs(h) / radius))
    ]


def slab(rng: Rng, at: Place, unit: float) -> list[Change]:
    h, radius = height(rng, unit), rng.uniform(2.5, 5) * unit
    if rng.random() < 0.4:
        return [Cone(*at, radius, h)]
    return [Block(*at, 2 * radius, rng.uniform(1, 2) * radius, rng.uniform(0, np.pi), h)]


def trench(rng: Rng, at: Place, unit: float) -> list[Change]:
    """A trench 2–3.5 units wide and 8–14 long, every second one on a bend."""
    width, h = rng.uniform(2, 3.5) * unit, -abs(height(rng, unit))
    slope = np.inf if rng.random() < 0.4 else max(rng.uniform(1, 3), 2.5 * abs(h) / width)
    bend = float(rng.choice([-1, 1]) * rng.uniform(0.4, 1.4)) if rng.random() < 0.5 else 0.0
    legs = (rng.uniform(3, 5) * unit, rng.uniform(3, 5) * unit)
    drawn = Trench(*at, rng.uniform(0, 2 * np.pi), legs, bend, 3 * unit, width, h, slope)
    return [_centred(drawn, at)]


def _centred(drawn: Trench, at: Place) -> Trench:
    """Return a trench whose outline has its middle at a place."""
    middle = drawn.outline(0.0).centroid
    return replace(drawn, x=2 * at[0] - middle.x, y=2 * at[1] - middle.y)


def ditch(rng: Rng, at: Place, unit: float) -> list[Change]:
    """A narrow ditch or dam, 0.8–2.5 units wide and 6–20 long, two of three between upright walls."""
    width, h = rng.uniform(0.8, 2.5) * unit, height(rng, unit)
    slope = np.inf if rng.random() < 0.65 else max(rng.uniform(1.5, 5), 2.2 * abs(h) / width)
    bend = float(rng.choice([-1, 1]) * rng.uniform(0.2, 0.9)) if rng.random() < 0.3 else 0.0
    legs = (rng.uniform(3, 8) * unit, rng.uniform(2, 8) * unit)
    drawn = Trench(*at, rng.uniform(0, 2 * np.pi), legs, bend, 4 * unit, width, h, slope)
    return [_centred(drawn, at)]


def _beside(rng: Rng, at: Place, unit: float, gap: float, signs: tuple[int, int], slope: float) -> list[Change]:
    turn = rng.uniform(0, np.pi)
    deep = rng.uniform(4, 6) * unit
    out: list[Change] = []
    for sign, side in zip(signs, (-1, 1), strict=True):
        long, h = rng.uniform(4, 5.5) * unit, sign * abs(height(rng, unit))
        away = side * (gap + long) / 2
        steep = slope if np.isinf(slope) else max(slope, 2.5 * abs(h) / min(long, deep))
        out.append(Block(at[0] + away * np.cos(turn), at[1] + away * np.sin(turn), long, deep, turn, h, steep))
    return out


def touching(rng: Rng, at: Place, unit: float) -> list[Change]:
    """Dug here and dumped beside it: a cut and a fill with one common edge."""
    first = int(rng.choice([-1, 1]))
    return _beside(rng, at, unit, 0.0, (first, -first), np.inf if rng.random() < 0.5 else rng.uniform(0.5, 1.5))


def spoil(rng: Rng, at: Place, unit: float) -> list[Change]:
    """A pit and its spoil along a part of one edge: of unlike length, depth and slope, one further along."""
    first, turn = int(rng.choice([-1, 1])), rng.uniform(0, np.pi)
    out: list[Change] = []
    for sign, side in ((first, -1), (-first, 1)):
        long, deep, along = rng.uniform(2.5, 4.5) * unit, rng.uniform(3, 7) * unit, rng.uniform(-1.5, 1.5) * unit
        h = sign * abs(height(rng, unit))
        slope = np.inf if rng.random() < 0.4 else max(rng.uniform(0.3, 3), 2.2 * abs(h) / min(long, deep))
        x, y = side * long / 2, along
        c, s = np.cos(turn), np.sin(turn)
        out.append(Block(at[0] + c * x - s * y, at[1] + s * x + c * y, long, deep, turn, h, slope))
    return out


def close(rng: Rng, at: Place, unit: float) -> list[Change]:
    """Two of one sign, 2 to 4 m apart."""
    sign = int(rng.choice([-1, 1]))
    slope = np.inf if rng.random() < 0.5 else rng.uniform(0.8, 2)
    return _beside(rng, at, unit, rng.uniform(2, 4), (sign, sign), slope)


def shallow(rng: Rng, at: Place, unit: float) -> list[Change]:
    """A wide and very low mound or hollow, such as erosion leaves: a few centimetres over a third of the site."""
    radius, h = rng.uniform(5, 8) * unit, float(rng.choice([-1, 1]) * rng.uniform(0.03, 0.2))
    return [
        Cosine(*at, radius, h)
        if rng.random() < 0.5
        else Cone(*at, radius, h, max(rng.uniform(0.03, 0.15), 1.5 * abs(h) / radius))
    ]


def upright(rng: Rng, at: Place, unit: float) -> list[Change]:
    """A heap between walls, or one dumped steeply, as small as a vehicle; or a pit like it."""
    h = float(rng.choice([-1, 1], p=[0.3, 0.7]) * rng.uniform(0.6, 2.4))
    long, wide = min(rng.uniform(2, 8), 11 * unit), min(rng.uniform(1.5, 3.0), 11 * unit)
    slope = np.inf if rng.random() < 0.6 else max(rng.uniform(1.5, 4), 2 * abs(h) / wide)
    return [Block(*at, long, min(long, wide), rng.uniform(0, np.pi), h, slope)]


MOTIFS: dict[str, Callable[[Rng, Place, float], list[Change]]] = {
    "mound": mound, "frustum": frustum, "slab": slab, "trench": trench, "touching": touching, "close": close,
    "shallow": shallow, "upright": upright, "spoil": spoil, "ditch": ditch,
}  # fmt: skip


def place_changes(rng: Rng, motifs: tuple[str, ...], size: float) -> tuple[Change, ...]:
    """Deal motifs to the four quarters; ``large`` takes the left third or more, ``edge`` lies across the border."""
    unit = size / UNITS
    slots = [(x * size + rng.uniform(-1, 1) * unit, y * size + rng.uniform(-1, 1) * unit) for x, y in SLOTS]
    changes: list[Change] = []
    if "large" in motifs:
        h = height(rng, 2.0) * 1.2
        to = rng.uniform(0.24, 0.42) * size
        changes.append(Block((to - 0.3 * size) / 2, size / 2, to + 0.3 * size, 1.6 * size, 0.0, h, rng.uniform(0.4, 1)))
        slots = [slot for slot in slots if slot[0] > size / 2]
    rest = [m for m in motifs if m != "large"]
    for i, slot in enumerate(slots if rest else []):
        motif = rest[i % len(rest)] if i < len(rest) else rest[int(rng.integers(len(rest)))]
        changes += _clear(rng, motif, slot, size, taken(tuple(changes), 0.02 * size))
    return tuple(changes)


def _clear(rng: Rng, motif: str, slot: Place, size: float, barred: Polygon | MultiPolygon) -> list[Change]:
    """Draw a motif again until it is clear of what is there."""
    unit = size / UNITS
    for _ in range(200):
        if motif == "edge":
            at = (slot[0], rng.uniform(-2, 2) * unit + (0.0 if slot[1] < size / 2 else size))
            drawn = (mound if rng.random() < 0.5 else frustum)(rng, at, unit)
        else:
            drawn = MOTIFS[motif](rng, slot, unit)
        if all(change.outline(0.0).disjoint(barred) for change in drawn):
            return drawn
    raise RuntimeError(f"no room for a {motif}")


def taken(changes: tuple[Change, ...], gap: float) -> Polygon | MultiPolygon:
    """The ground that changed, and ``gap`` metres around it."""
    joined = union_all([change.outline(0.0) for change in changes]).buffer(gap)
    assert isinstance(joined, Polygon | MultiPolygon)
    return joined


def stable_ground(rng: Rng, style: str, size: float, changes: tuple[Change, ...]) -> MultiPolygon:
    """Unchanged ground: a ``frame`` all around, ``patches`` in corners, one ``side``, or ``few`` small patches."""
    w = 0.1 * size
    if style == "frame":
        boxes = [
            box(0, 0, size, w),
            box(0, size - w, size, size),
            box(0, w, w, size - w),
            box(size - w, w, size, size - w),
        ]
    elif style == "side":
        boxes = [box(size - 1.2 * w, 0, size, size)]
    else:
        e = (1.5 if style == "patches" else 0.9) * w
        at = [(0.0, 0.0), (size - e, 0.0), (0.0, size - e), (size - e, size - e), (size / 2 - e / 2, 0.0)]
        keep = at if style == "patches" else [at[i] for i in rng.permutation(4)[:3]]
        boxes = [box(x, y, x + e, y + e) for x, y in keep]
    free = [part.difference(taken(changes, max(2.0, 0.03 * size))) for part in boxes]
    parts = [p for f in free for p in getattr(f, "geoms", [f]) if isinstance(p, Polygon) and p.area > w**2 / 20]
    return MultiPolygon(parts)


def covers(rng: Rng, what: tuple[str, ...], size: float, changes: tuple[Change, ...]) -> tuple[Cover, Cover]:
    """What stands there before and after, clear of the changes by a metre; worked ground bears no grass."""
    barred = taken(changes, 0.0)

    def free(radius: float) -> Place | None:
        for _ in range(30):
            at = (float(rng.uniform(0, size)), float(rng.uniform(0, size)))
            if Point(at).buffer(radius + 1).disjoint(barred):
                return at
        return None

    plants: list[Plant] = []
    for name, tree, wide, high in (("bushes", False, (0.6, 2.0), (0.4, 1.8)), ("trees", True, (1.5, 4.0), (4.0, 12.0))):
        for _ in range(int(np.clip(size**2 / 350, 5, 30)) if name in what else 0):
            radius = rng.uniform(*wide)
            if (at := free(radius)) is not None:
                plants.append(Plant(*at, radius, rng.uniform(*high), tree, rng.uniform(0.15, 0.4)))
    things: tuple[list[Thing], list[Thing]] = ([], [])
    for name, number, sizes in (("vehicles", rng.integers(3, 7), ((4, 9), (1.8, 2.6), (1.4, 3.2))),
                                ("people", rng.integers(2, 6), ((0.5, 0.7), (0.4, 0.6), (1.5, 1.9)))):  # fmt: skip
        for _ in range(int(number) if name in what else 0):
            dims = [float(rng.uniform(*each)) for each in sizes]
            if (at := free(dims[0] / 2)) is not None:
                things[int(rng.integers(2))].append(Thing(*at, *dims, float(rng.uniform(0, np.pi))))
    before, after = [], []
    for _ in range(int(rng.integers(3, 6)) if "grass" in what else 0):
        x, y, radius, high = *rng.uniform(0, size, 2), rng.uniform(0.08, 0.2) * size, rng.uniform(0.05, 0.25)
        before.append((float(x), float(y), radius, high))
        after.append((float(x), float(y), radius, high * rng.uniform(0.8, 1.4)))
    for _ in range(int(rng.integers(2, 7)) if "heath" in what else 0):  # mown or grown, over more or less of the site
        x, y, radius, high = *rng.uniform(0, size, 2), rng.uniform(0.04, 0.3) * size, rng.uniform(0.03, 0.4)
        before.append((float(x), float(y), radius, high))
        after.append((float(x), float(y), radius, high * float(np.exp(rng.uniform(-1.0, 1.0)))))
    bare = barred if isinstance(barred, MultiPolygon) else MultiPolygon([barred] if not barred.is_empty else [])
    return (
        Cover(tuple(plants), tuple(things[0]), tuple(before), bare),
        Cover(grown(tuple(plants), rng), tuple(things[1]), tuple(after), bare),
    )


def holes(rng: Rng, size: float, changes: tuple[Change, ...]) -> tuple[Hole, ...]:
    """Two or three gaps on unchanged ground, and one inside the first change (which has to be interpolated)."""
    found: list[Hole] = []
    if changes and isinstance(first := changes[0].outline(0.0), Polygon):
        within = first.centroid.distance(first.exterior) if first.contains(first.centroid) else 0.0
        found.append((first.centroid.x, first.centroid.y, 0.3 * within))
    barred = taken(changes, 0.02 * size)
    for _ in range(int(rng.integers(2, 4))):
        x, y, radius = *(float(v) for v in rng.uniform(0, size, 2)), float(rng.uniform(0.02, 0.05) * size)
        if Point(x, y).buffer(radius).disjoint(barred):
            found.append((x, y, radius))
    return tuple(found)
