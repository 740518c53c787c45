"""Which kinds of worlds there are: one table to fit on, one to judge by.

FIT may be used to choose constants. JUDGE may not: it is for measuring only, with other seeds throughout. A judged
kind is ``seen`` if FIT has the same combination of terrain, changes,
        errors and cover within the same ranges of density and noise,
and ``unseen`` if it has a terrain, change, error, cover or density that FIT never has.
"""

from dataclasses import dataclass, replace
from typing import Literal
from zlib import crc32

import numpy as np

from benchmarks.worlds.changes import Bounds, Change
from benchmarks.worlds.cover import Cover
from benchmarks.worlds.errors import Errors
from benchmarks.worlds.layout import covers, holes, place_changes, stable_ground
from benchmarks.worlds.terrain import TERRAINS
from benchmarks.worlds.world import Array, Expected, Survey, World, rigid

Span = tuple[float, float]
Set = Literal["fit", "judge"]
ZERO: Span = (0.0, 0.0)
UTM, LOCAL = np.array([630_000.0, 4_830_000.0, 75.0]), np.array([12.5, -7.25, 0.0])
FEET_ORIGIN = np.array([305_000.0, 61_000.0, 20.0])  # metres, in New York's state plane
MOST_POINTS, FEWEST_POINTS = 400_000, 20_000


@dataclass(frozen=True)
class Kind:
    """What a world of this kind is drawn from; spans are uniform, lengths in metres.

    Args:
        terrain: Key of ``TERRAINS``.
        motifs: What moves (``layout``); empty for no change.
        white, correlated, reach, stripes, dome, horizontal: See ``Errors``; of each epoch anew.
        density: Of the coarser survey, points per m².
        ratio: How many times denser the other survey is; which one that is, is drawn.
        points: Of the coarser survey in the common square.
        cover: Any of grass, heath, bushes, trees, vehicles, people.
        gaps: Whether each survey has holes.
        overlap: Share of each survey that both cover.
        motion: ``none``; ``small`` (1°, 0.5 m, 0.2° of tilt); ``datum`` (up to 40 m in height only); ``far``
            (±180°, 100 m, 5° of tilt).
        stable: Style of the polygons (``layout.stable_ground``).
        seen: Whether FIT has such worlds; None in FIT itself.
    """

    terrain: str
    motifs: tuple[str, ...] = ("mound", "slab")
    white: Span = (0.015, 0.05)
    correlated: Span = ZERO
    reach: Span = (5.0, 12.0)
    form: Literal["gauss", "exponential"] = "gauss"
    stripes: Span = ZERO
    dome: Span = ZERO
    horizontal: float = 0.0
    density: Span = (10.0, 100.0)
    ratio: Span = (1.0, 1.5)
    points: Span = (25_000, 150_000)
    cover: tuple[str, ...] = ()
    gaps: bool = False
    overlap: Span = (1.0, 1.0)
    motion: Literal["none", "small", "datum", "far"] = "small"
    stable: str = "frame"
    place: Literal["utm", "local", "feet"] = "utm"
    classified: bool = False
    impostor: bool = False
    expected: Expected = "result"
    seen: bool | None = None


FIT: dict[str, Kind] = {
    "hills": Kind("hills"),
    "hills, correlated": Kind("hills", correlated=(0.005, 0.02)),
    "hills, plants": Kind("hills", cover=("bushes", "trees")),
    "quarry": Kind("quarry", motifs=("mound", "slab", "frustum")),
    "quarry, correlated": Kind("quarry", correlated=(0.005, 0.02)),
    "quarry, plants and vehicles": Kind("quarry", correlated=(0.005, 0.015), cover=("bushes", "trees", "vehicles")),
    "field": Kind("field", motifs=("mound", "slab", "frustum")),
    "field, correlated": Kind("field", correlated=(0.005, 0.02)),
    "field, vehicles": Kind("field", cover=("vehicles",)),
    "hills, correlated, no change": Kind("hills", motifs=(), correlated=(0.005, 0.02)),
    "hills, plants, no change": Kind("hills", motifs=(), cover=("bushes", "trees")),
    "quarry, no change": Kind("quarry", motifs=()),
    "quarry, plants and vehicles, no change": Kind(
        "quarry", motifs=(), correlated=(0.005, 0.015), cover=("bushes", "trees", "vehicles")
    ),
    "field, correlated, no change": Kind("field", motifs=(), correlated=(0.005, 0.02)),
    "field, vehicles, no change": Kind("field", motifs=(), cover=("vehicles",)),
    # for seams and walls
    "field, spoil beside its pit": Kind("field", motifs=("spoil",), density=(8, 60)),
    "quarry, spoil beside its pit, correlated": Kind(
        "quarry", motifs=("spoil", "slab"), correlated=(0.005, 0.02), density=(8, 60)
    ),
    # for the score and the kind: what is small and upright, what is wide and faint, and what only looks like it
    "quarry, upright, vehicles": Kind("quarry", motifs=("upright", "mound"), cover=("vehicles",), density=(15, 60)),
    "field, upright, vehicles, patches": Kind(
        "field", motifs=("upright", "slab"), cover=("vehicles",), density=(15, 60), stable="patches"
    ),
    "hills, vehicles, no change": Kind("hills", motifs=(), cover=("vehicles",), stable="patches"),
    "quarry, shallow, error of 9-14 m range": Kind(
        "quarry", motifs=("shallow", "slab"), correlated=(0.005, 0.02), reach=(9, 14), density=(50, 100),
        points=(30_000, 80_000), stable="patches",
    ),
    "field, shallow, error of 32-60 m range": Kind(
        "field", motifs=("shallow", "mound"), correlated=(0.01, 0.03), reach=(32, 60), density=(3, 7),
        points=(25_000, 90_000), stable="patches",
    ),
    "quarry, error of 9-14 m range, no change": Kind(
        "quarry", motifs=(), correlated=(0.005, 0.02), reach=(9, 14), density=(50, 100), points=(30_000, 80_000),
        stable="patches",
    ),
    "field, error of 32-60 m range, no change": Kind(
        "field", motifs=(), correlated=(0.01, 0.03), reach=(32, 60), density=(3, 7), points=(25_000, 90_000),
        stable="patches",
    ),
    "hills, error of 32-60 m range, no change": Kind(
        "hills", motifs=(), correlated=(0.01, 0.03), reach=(32, 60), density=(3, 7), points=(25_000, 90_000),
        stable="few",
    ),
    "quarry, patches, no change": Kind("quarry", motifs=(), density=(3, 30), stable="patches"),
    # for what grows, what stands at the border, and what is a cell or two wide
    "field, heath": Kind("field", cover=("heath",), density=(8, 60)),
    "hills, heath, no change": Kind("hills", motifs=(), cover=("heath", "bushes"), density=(8, 60)),
    "quarry, heath, no change": Kind("quarry", motifs=(), cover=("heath",), density=(8, 60), stable="patches"),
    "quarry, vehicles and people, no change": Kind("quarry", motifs=(), cover=("vehicles", "people"), density=(8, 60)),
    "field, ditches": Kind("field", motifs=("ditch",), density=(8, 60)),
    "quarry, ditches": Kind("quarry", motifs=("ditch", "mound"), density=(8, 60), stable="patches"),
}  # fmt: skip

_SHARED = (
    "hills", "hills, correlated", "hills, plants", "quarry", "quarry, correlated", "quarry, plants and vehicles",
        "field",
    "field, correlated", "field, vehicles", "hills, correlated, no change", "quarry, plants and vehicles, no change",
    "field, correlated, no change",
)  # fmt: skip
_AIRBORNE = Kind("hills", density=(0.2, 2.0), white=(0.03, 0.08), points=(20_000, 50_000), motion="datum", seen=False)
_PHOTOS = Kind("beach", density=(150, 400), white=(0.01, 0.03), points=(80_000, 200_000), ratio=(1.0, 2.0),
               dome=(0.02, 0.06), correlated=(0.005, 0.01), reach=(5, 15), seen=False)  # fmt: skip
_EVERY = ("mound", "frustum", "slab", "trench")

JUDGE: dict[str, Kind] = {
    **{name: replace(FIT[name], seen=True) for name in _SHARED},
    # changes that FIT never has
    "hills, one-sided large cut": Kind("hills", motifs=("large", "mound"), stable="side", seen=False),
    "quarry, one-sided large cut": Kind("quarry", motifs=("large", "slab"), stable="side", seen=False),
    "field, trenches": Kind("field", motifs=("trench",), stable="patches", seen=False),
    "hills, touching cut and fill": Kind("hills", motifs=("touching",), stable="patches", seen=False),
    "field, 2-4 m apart": Kind("field", motifs=("close",), density=(25, 60), points=(80_000, 150_000), seen=False),
    "hills, at the edge of the survey": Kind("hills", motifs=("edge", "mound"), stable="patches", seen=False),
    # terrains
    "beach": Kind("beach", motifs=("mound", "frustum", "touching"), stable="patches", seen=False),
    "embankment": Kind("embankment", motifs=_EVERY, stable="patches", seen=False),
    "yard": Kind("yard", motifs=("frustum", "mound", "slab"), stable="patches", seen=False),
    "yard, vehicles and people": Kind("yard", motifs=("frustum", "slab"), cover=("vehicles", "people"), seen=False),
    # errors
    "hills, error of 15-30 m range": Kind("hills", motifs=_EVERY, correlated=(0.01, 0.025), reach=(15, 30),
        points=(60_000, 200_000), density=(8, 40), stable="patches", seen=False),
    "field, exponential error": Kind("field", motifs=_EVERY, correlated=(0.01, 0.02), reach=(8, 25),
        form="exponential", density=(8, 40), seen=False),
    "embankment, flight lines": Kind("embankment", motifs=("mound", "slab"), stripes=(0.01, 0.025), horizontal=0.02,
        density=(4, 20), points=(40_000, 120_000), seen=False),
    "beach, photogrammetry, doming": replace(_PHOTOS, motifs=("mound", "touching")),
    "hills, horizontal noise": Kind("hills", motifs=_EVERY, horizontal=0.05, stable="few", seen=False),
    # density
    "hills, airborne 0.2-2 per m²": replace(_AIRBORNE, motifs=("mound", "frustum")),
    "beach, airborne, feet": replace(_AIRBORNE, terrain="beach", place="feet", motifs=("mound", "slab")),
    "field, airborne, classified, plants": replace(_AIRBORNE, terrain="field", classified=True,
        cover=("bushes", "trees"), correlated=(0.01, 0.03), reach=(15, 30)),
    "quarry, 150-400 per m²": Kind("quarry", motifs=_EVERY, density=(150, 400), white=(0.01, 0.03),
        points=(80_000, 200_000), seen=False),
    "hills, unlike densities": Kind("hills", motifs=("mound", "frustum"), ratio=(4, 10), points=(20_000, 40_000),
        stable="patches", seen=False),
    # cover
    "hills, grass": Kind("hills", motifs=("mound", "slab"), cover=("grass",), stable="patches", seen=False),
    "embankment, plants and vehicles": Kind("embankment", motifs=("frustum", "trench"),
        cover=("grass", "bushes", "trees", "vehicles", "people"), seen=False),
    "beach, people and vehicles, holes": Kind("beach", motifs=("mound", "slab"), cover=("people", "vehicles"),
        gaps=True, seen=False),
    "yard, holes": Kind("yard", motifs=("mound", "slab"), gaps=True, stable="patches", seen=False),
    # coordinates
    "hills, yaw ±180°, shift ≤ 100 m, overlap ≥ 0.5": Kind("hills", motifs=("mound", "slab"), motion="far",
        overlap=(0.5, 0.95), seen=False),
    "quarry, yaw ±180°, shift ≤ 100 m": Kind("quarry", motifs=("mound", "slab"), motion="far", overlap=(0.7, 1.0),
        seen=False),
    "terraces, yaw ±180°, shift ≤ 100 m": Kind("terraces", motifs=("mound", "slab"), motion="far", overlap=(0.7, 1.0),
        expected="either", seen=False),
    "yard, yaw ±180°, local coordinates": Kind("yard", motifs=("mound", "slab"), motion="far", place="local",
        seen=False),
    "embankment, partial overlap, datum": Kind("embankment", motifs=("mound", "slab"), motion="datum",
        overlap=(0.5, 0.8), place="local", seen=False),
    "hills, feet": Kind("hills", motifs=("mound", "slab"), place="feet", seen=False),
    "hills against other hills": Kind("hills", motifs=(), impostor=True, expected="refusal", seen=False),
    # nothing moved
    "beach, no change": Kind("beach", motifs=(), stable="patches", motion="none", seen=False),
    "yard, vehicles, no change": Kind("yard", motifs=(), cover=("vehicles", "people"), seen=False),
    "embankment, plants, no change": Kind("embankment", motifs=(), cover=("grass", "bushes", "trees"),
        stable="patches", seen=False),
    "hills, error of 15-30 m range, no change": Kind("hills", motifs=(), correlated=(0.01, 0.025), reach=(15, 30),
        points=(60_000, 200_000), density=(8, 40), stable="patches", seen=False),
    "field, exponential error, no change": Kind("field", motifs=(), correlated=(0.01, 0.02), reach=(8, 25),
        form="exponential", stable="few", density=(8, 40), seen=False),
    "embankment, flight lines, no change": Kind("embankment", motifs=(), stripes=(0.01, 0.025), density=(4, 20),
        horizontal=0.02, seen=False),
    "beach, photogrammetry, no change": replace(_PHOTOS, motifs=()),
    "hills, airborne, no change": replace(_AIRBORNE, motifs=()),
    "quarry, yaw ±180°, no change": Kind("quarry", motifs=(), motion="far", seen=False),
}  # fmt: skip
TABLES: dict[Set, dict[str, Kind]] = {"fit": FIT, "judge": JUDGE}


def world(which: Set, name: str, index: int) -> World:
    """Draw a world: the same three arguments give the same world, and no two sets share a seed."""
    kind = TABLES[which][name]
    seed = ({"fit": 1, "judge": 2}[which], crc32(name.encode()), index)
    rng = np.random.default_rng(seed)
    density = float(np.exp(rng.uniform(*np.log(kind.density))))
    ratio = rng.uniform(*kind.ratio)
    shared = np.exp(rng.uniform(*np.log(kind.points)))
    overlap = rng.uniform(*kind.overlap)
    size = float(np.sqrt(np.clip(shared, FEWEST_POINTS, MOST_POINTS * overlap / ratio) / density))
    surface = TERRAINS[kind.terrain](rng, size)
    later = TERRAINS[kind.terrain](rng, size) if kind.impostor else surface
    changes = place_changes(rng, kind.motifs, size)
    before, after = covers(rng, kind.cover, size, changes)
    flip = bool(rng.integers(2))
    surveys = [
        _survey(rng, kind, size, bounds, density * (ratio if denser else 1), cover, changes)
        for bounds, denser, cover in zip(_bounds(size, overlap), (flip, not flip), (before, after), strict=True)
    ]
    places = {"utm": UTM, "local": LOCAL, "feet": FEET_ORIGIN}
    return World(
        kind=name, index=index, surface=surface, later=later, changes=changes, pre=surveys[0], post=surveys[1],
        size=size,
        motion=_motion(rng, kind.motion), origin=places[kind.place], stable=stable_ground(rng, kind.stable, size,
        changes),
        seed=seed, classified=kind.classified, feet=kind.place == "feet", expected=kind.expected,
    )  # fmt: skip


def _bounds(size: float, overlap: float) -> tuple[Bounds, Bounds]:
    """Two surveys that share the square and reach beyond it in opposite directions."""
    more = size * (1 / overlap - 1)
    return (-more, 0.0, size, size), (0.0, 0.0, size + more, size)


def _survey(rng: np.random.Generator, kind: Kind, size: float, bounds: Bounds, density: float, cover: Cover,
            changes: tuple[Change, ...]) -> Survey:  # fmt: skip
    errors = Errors(
        white=rng.uniform(*kind.white), horizontal=kind.horizontal, correlated=rng.uniform(*kind.correlated),
        range=rng.uniform(*kind.reach), form=kind.form, stripes=rng.uniform(*kind.stripes),
        stripe_width=rng.uniform(20, 40), dome=rng.uniform(*kind.dome),
    )  # fmt: skip
    return Survey(bounds, density, errors, cover, holes(rng, size, changes) if kind.gaps else ())


def _motion(rng: np.random.Generator, how: str) -> Array:
    if how == "none":
        return np.eye(4)
    if how == "datum":
        return rigid(0, (0, 0), (0, 0, rng.uniform(-40, 40)))
    if how == "small":
        return rigid(rng.uniform(-1, 1), tuple(rng.uniform(-0.2, 0.2, 2)), tuple(rng.uniform(-0.5, 0.5, 3)))
    turn, far = rng.uniform(0, 2 * np.pi), rng.uniform(10, 100)
    shift = (far * np.cos(turn), far * np.sin(turn), rng.uniform(-30, 30))
    lean, which = rng.uniform(0, 5), rng.uniform(0, 2 * np.pi)
    return rigid(rng.uniform(-180, 180), (lean * np.cos(which), lean * np.sin(which)), shift)
