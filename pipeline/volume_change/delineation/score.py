"""How likely is a hull a real change of the ground, and what is it?"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

from pipeline.volume_change.types import EIGHT, Array, Kind, Mask
from pipeline.volume_change.uncertainty.volumes import Measured

# Logistic regressions on hulls of the set `fit` of benchmarks/worlds, real changes against bumps of the error, and
# ground against plants and vehicles, each checked on kinds of worlds that were left out.
Z_VOLUME, EXCESS, RARITY, NOISE = 2.98, -3.00, 2.17, -10.79
MOST_EXCESS, MOST_RARE = 4.0, 20.0  # where both level off: more is no more telling
NEAR, CONTRAST, SLENDER, STANDING, AREA, EARTH = -1.89, -0.74, -2.51, -1.28, -0.23, -6.00
WHOLE, GROWN, LONG = -4.60, -10.39, 1.43
SMOOTHEST = 2.5e-5  # m², 5 mm: no survey of natural ground is smoother, so what is rougher is not yet a plant
NO_EARTH: tuple[Kind, ...] = ("vegetation", "object")
NOT_GROUND_AT_MOST = 0.2  # how likely ground what looks like a plant is where ground was classified

MOST_NEAR, LEAST_NEAR = 0.1, 0.02  # share of points above the ground around: scraps of vehicles have more, earth less
MOST_CONTRAST = 4.0
FLATTEST = 0.02  # height over width that is as flat as can be told
LEAST_AREA, MOST_AREA = 1.0, 200.0  # m²
MOST_WHOLE = 0.5  # share of a volume: the rest is the walls' cells
LEAST_GROWN, MOST_GROWN = 0.5, 1.5  # scatter over change: earth has less than the first, grass more than the second
LONG_FROM, LONGEST = 10.0, 20.0  # m: few vehicles are longer than the first, none than the second
CERTAIN_EARTH = 0.8  # how likely a hull called ground without reserve is
STEEP_RIM = 1.0  # rise over run at the rim: vehicles stand at 1.6, plants at 0.6
ROUGH, CLASSIFIED_ROUGH = 1.5, 3.5  # contrast and ln roughness from which even classified ground is taken for a plant
STANDS = 0.25  # of its height: what stands rises above the ground around (0.4 to 1); where a pit came, it lay level
TALLEST = 2.0  # height over width: no earth stands or falls like that, but what a filter left of a vehicle does


@dataclass(frozen=True, slots=True)
class Appearance:
    """What a hull looks like.

    Args:
        roughness: ln of the within-cell variance over the site's median, median of the hull, of the survey that lies
            higher: what stands there in one survey only is in that one.
        contrast: How much rougher than its surroundings, ln.
        near: Share of that survey's points that are not ground on the two rings of cells around.
        rim_gradient: 80th percentile of the slope of the change along its rim, rise over run.
        area: Of its cells, m².
        height: Of its highest or deepest cell, m, ≥ 0.
        stands: How far the higher survey rises above the plane of the ground around, over the change: near 1 for what
            stands there, near 0 for a pit or its filling.
        whole: Share of its volume that a ground filter took whole, as of a thing that stands on the ground.
        grown: How much further the points scatter than those around or usually, over the mean change: grass that
            grows or is mown scatters about as far as it rises or falls, and earth does not.
        length: Of a rectangle that its cells are spread as widely as, m.
    """

    roughness: float
    contrast: float
    near: float
    rim_gradient: float
    area: float
    height: float
    stands: float
    whole: float = 0.0
    grown: float = 0.0
    length: float = 0.0

    @property
    def slenderness(self) -> float:
        """Height over width."""
        return self.height / float(np.sqrt(self.area))


def probability(measured: Measured, excess: float, share: float) -> float:
    """Return how likely the hull is a real change rather than noise, 0 to 1.

    Args:
        measured: The hull.
        excess: How much higher the site's other bumps of its size are than the stable ground lets expect.
        share: Of the site's ground that is the hull's: a site has few bumps as large as itself, and shows little
            of what they are like.
    """
    z = abs(measured.net) / max(measured.sigma, 1e-9)
    return _logistic(
        Z_VOLUME * np.log(max(z, 1e-3))
        + EXCESS * np.log(np.clip(excess, 1.0, MOST_EXCESS))
        + RARITY * np.log(np.clip(1.0 / max(share, 1e-9), 1.0, MOST_RARE))
        + NOISE
    )


def ground_probability(look: Appearance, *, classified: bool = False) -> float:
    """Return how likely a hull is ground rather than a plant or a vehicle, going by its looks, 0 to 1.

    Args:
        look: Of the hull.
        classified: Whether ground was told apart by the files' classes: it was then found beneath plants, so
            points above it mean nothing, and banks are rough in cells of many metres; only the extreme counts.
    """
    if classified:
        rough = look.roughness > CLASSIFIED_ROUGH and look.contrast > ROUGH and look.stands >= STANDS
        return NOT_GROUND_AT_MOST if rough or look.slenderness > TALLEST else 1.0
    return _logistic(
        NEAR * np.log(LEAST_NEAR + min(look.near, MOST_NEAR))
        + CONTRAST * np.clip(look.contrast, 0.0, MOST_CONTRAST)
        + SLENDER * np.log(FLATTEST + look.slenderness)
        + STANDING * np.clip(look.stands, 0.0, 1.0)
        + AREA * np.log(np.clip(look.area, LEAST_AREA, MOST_AREA))
        + WHOLE * min(look.whole, MOST_WHOLE)
        + GROWN * (np.clip(look.grown, LEAST_GROWN, MOST_GROWN) - LEAST_GROWN)
        + LONG * np.log(np.clip(look.length / LONG_FROM, 1.0, LONGEST / LONG_FROM))
        + EARTH
    )


def _logistic(logit: float) -> float:
    return float(1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0))))


@dataclass(frozen=True, slots=True)
class Higher:
    """The survey that lies higher within hulls of one sign; all arrays have the raster's shape.

    Args:
        height: Of the ground, m; NaN where unseen or not to be trusted.
        roughness: Within-cell variance, m²; NaN where unknown.
        above: Share of points that are not ground.
        whole: Cells that a ground filter took whole; None = none.
    """

    height: Array
    roughness: Array
    above: Array
    whole: Mask | None = None

    @property
    def usual(self) -> float:
        """The site's median roughness, m²."""
        known = self.roughness[np.isfinite(self.roughness)]
        return max(float(np.median(known)), SMOOTHEST) if len(known) else SMOOTHEST


def appearance(measured: Measured, change: Array, higher: Higher, usual: float, cell: float) -> Appearance:
    """Describe a hull.

    Args:
        measured: The hull.
        change: Height change of the whole raster, m; NaN where unseen.
        higher: The survey that lies higher in it.
        usual: The site's usual roughness, m².
        cell: Edge of a cell, m.
    """
    inside, box = measured.inside, measured.box
    near = binary_dilation(inside, iterations=4) & ~binary_dilation(inside, iterations=1)
    # The rim of a pit with sharp edges is rough in itself; what a hull is made of shows within.
    within = binary_erosion(inside)
    core = within if within.sum() >= 4 else inside
    own, around = (_median(higher.roughness[box][mask], usual) for mask in (core, near))
    rings = binary_dilation(inside, EIGHT, iterations=2) & ~inside
    return Appearance(
        float(np.log(own / usual)),
        float(np.log(own / around)),
        float(np.mean(higher.above[box][rings])) if rings.any() else 0.0,
        _rim_gradient(np.where(np.isfinite(change[box]), change[box], 0.0), inside, cell),
        float(inside.sum()) * cell * cell,
        abs(measured.max_change),
        _stands(higher.height[box], change[box], core, near),
        0.0 if higher.whole is None else _share(np.abs(change[box]), higher.whole[box], inside),
        float(np.sqrt(max(own - min(around, usual), 0.0))) / max(_mean_change(change[box][core]), 1e-9),
        _length(inside) * cell,
    )


def _length(inside: Mask) -> float:
    """Return the length of the rectangle whose variance along its long axis is that of the cells, in cells."""
    places = np.array(np.nonzero(inside), dtype=float)
    spread = np.cov(places, bias=True) + np.eye(2) / 12  # each cell is a unit wide itself
    return float(np.sqrt(12 * np.linalg.eigvalsh(spread)[-1]))


def _share(volume: Array, part: Mask, inside: Mask) -> float:
    known = inside & np.isfinite(volume)
    return float(volume[known & part].sum()) / max(float(volume[known].sum()), 1e-9)


def _mean_change(change: Array) -> float:
    known = change[np.isfinite(change)]
    return abs(float(known.mean())) if len(known) else 0.0


def _stands(height: Array, change: Array, core: Mask, near: Mask) -> float:
    """Return the mean rise above the plane of the ground around over the mean change; 1 where nobody can tell."""
    around, own = near & np.isfinite(height), core & np.isfinite(height) & np.isfinite(change)
    if around.sum() < 6 or not own.any():
        return 1.0
    places = [np.column_stack([np.ones(mask.sum()), *np.nonzero(mask)]) for mask in (around, own)]
    plane = np.linalg.lstsq(places[0], height[around], rcond=None)[0]
    rise = float((height[own] - places[1] @ plane).mean())
    moved = abs(float(change[own].mean()))
    return rise / moved if moved > 0 else 1.0


def _median(values: Array, otherwise: float) -> float:
    known = values[np.isfinite(values)]
    return max(float(np.median(known)), 0.01 * otherwise) if len(known) else otherwise


def _rim_gradient(change: Array, inside: Mask, cell: float) -> float:
    if min(change.shape) < 3:
        return 0.0
    slope = np.hypot(*np.gradient(change, cell))
    rim = inside & ~binary_erosion(inside, iterations=2)
    return float(np.quantile(slope[rim], 0.8))


def kind_of(look: Appearance, likely: float) -> Kind:
    """Return what a hull is, going by its looks and how likely it is ground.

    >>> car = Appearance(roughness=3.0, contrast=2.0, near=0.05, rim_gradient=1.6, area=9.0, height=1.6, stands=0.9)
    >>> kind_of(car, ground_probability(car))
    'object'
    """
    if likely < 0.5:
        thing = look.rim_gradient > STEEP_RIM or look.slenderness > TALLEST or look.whole >= MOST_WHOLE
        return "object" if thing else "vegetation"
    return "ground" if likely > CERTAIN_EARTH else "unknown"


def score_of(measured: Measured, excess: float, share: float, likely: float) -> float:
    """Return the probability that the hull is a real change of the ground, from that of ``ground_probability``."""
    return probability(measured, excess, share) * likely
