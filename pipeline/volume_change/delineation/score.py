"""How likely is a hull a real change of the ground, and what is it?"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

from pipeline.volume_change.types import Array, Kind, Mask
from pipeline.volume_change.uncertainty.volumes import Measured

# Logistic regression on 843 hulls of 820 synthetic scenes: hills, quarry and flat ground, 4–60 points/m²,
# noise of 1–8 cm, correlated error of 0–25 mm, changes of 1–20 standard deviations, and none in 460 of them.
Z_VOLUME, PEAK, CELLS, INTERCEPT = 3.55, 3.43, -0.25, -3.48
SMOOTHEST = 2.5e-5  # m², 5 mm: no survey of natural ground is smoother, so what is rougher is not yet a plant
NO_EARTH: tuple[Kind, ...] = ("vegetation", "object")
NOT_GROUND_AT_MOST = 0.2  # score of what looks like a plant or a vehicle

ROUGH = 1.5  # ln of roughness over the site's: plants stand at 4.5, vehicles at 3.0, earth at 0.1
STANDS_OUT = 0.8  # ln of roughness inside over that around the hull
ABOVE = 0.3  # share of points above the ground: plants and vehicles stand at 0.54, earth at 0.01
STEEP_RIM = 0.7  # rise over run at the rim: vehicles stand at 1.6, plants at 0.6, earth at 0.14
CLASSIFIED_ROUGH = 3.5  # ln roughness from which even classified ground is taken for a plant
VEHICLE_AREA, VEHICLE_HEIGHT, VEHICLE_RIM = 25.0, 1.0, 1.0  # m², m, rise over run
STANDS = 0.25  # of its height: what stands rises above the ground around (0.4 to 1); where a pit came, it lay level
SLENDER = 2.0  # height over width: no earth stands or falls like that, but what a filter left of a vehicle does
CERTAIN_EARTH = 0.4  # ln roughness up to which a hull is called ground without reserve


@dataclass(frozen=True, slots=True)
class Appearance:
    """What a hull looks like.

    Args:
        roughness: ln of the within-cell variance over the site's median, median of the hull, of the survey that lies
            higher: what stands there in one survey only is in that one.
        contrast: How much rougher than its surroundings, ln.
        above: Share of that survey's points that are not ground.
        rim_gradient: 80th percentile of the slope of the change along its rim, rise over run.
        area: Of its cells, m².
        height: Of its highest or deepest cell, m, ≥ 0.
        stands: How far the higher survey rises above the plane of the ground around, over the change: near 1 for what
            stands there, near 0 for a pit or its filling.
    """

    roughness: float
    contrast: float
    above: float
    rim_gradient: float
    area: float = 100.0
    height: float = 0.0
    stands: float = 1.0


def probability(measured: Measured, peak: float) -> float:
    """Return how likely the hull is a real change rather than noise, 0 to 1.

    Args:
        measured: The hull.
        peak: Highest z over its threshold.
    """
    z = abs(measured.net) / max(measured.sigma, 1e-9)
    logit = (
        Z_VOLUME * np.log(max(z, 1e-3))
        + PEAK * np.log(max(peak, 1e-3))
        + CELLS * np.log(float(measured.inside.sum()))
        + INTERCEPT
    )
    return float(1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0))))


@dataclass(frozen=True, slots=True)
class Higher:
    """The survey that lies higher within hulls of one sign; all arrays have the raster's shape.

    Args:
        height: Of the ground, m; NaN where unseen.
        roughness: Within-cell variance, m²; NaN where unknown.
        above: Share of points that are not ground.
    """

    height: Array
    roughness: Array
    above: Array

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
    return Appearance(
        float(np.log(own / usual)),
        float(np.log(own / around)),
        float(np.mean(higher.above[box][inside])),
        _rim_gradient(np.where(np.isfinite(change[box]), change[box], 0.0), inside, cell),
        float(inside.sum()) * cell * cell,
        abs(measured.max_change),
        _stands(higher.height[box], change[box], core, near),
    )


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


def kind_of(look: Appearance, *, classified: bool = False) -> Kind:
    """Return what a hull is, going by its looks.

    Args:
        look: Of the hull.
        classified: Whether ground was told apart by the files' classes: it was then found beneath plants, so
            points above it mean nothing, and banks are rough in cells of many metres; only the extreme counts.

    >>> kind_of(Appearance(roughness=0.1, contrast=0.0, above=0.01, rim_gradient=0.14))
    'ground'
    >>> kind_of(Appearance(roughness=4.5, contrast=3.0, above=0.54, rim_gradient=0.58))
    'vegetation'
    >>> kind_of(Appearance(roughness=3.0, contrast=2.0, above=0.54, rim_gradient=1.6))
    'object'
    """
    if look.height > SLENDER * np.sqrt(look.area):
        return "object"
    if look.stands < STANDS:  # below the ground around: nothing that stands there came or went
        return "ground"
    if classified:
        return "vegetation" if look.roughness > CLASSIFIED_ROUGH and look.contrast > ROUGH else "ground"
    stands_out = look.contrast > STANDS_OUT
    if stands_out and (look.roughness > ROUGH or look.above > ABOVE):
        return "object" if look.rim_gradient > 2 * STEEP_RIM else "vegetation"
    if stands_out and look.rim_gradient > STEEP_RIM and look.above > ABOVE / 3:
        return "object"
    if look.area < VEHICLE_AREA and look.height > VEHICLE_HEIGHT and look.rim_gradient > VEHICLE_RIM:
        return "object"  # earth does not stand upright as high and narrow as that
    return "unknown" if stands_out and look.roughness > CERTAIN_EARTH else "ground"


def score_of(measured: Measured, peak: float, kind: Kind) -> float:
    """Return the probability that the hull is a real change of the ground."""
    real = probability(measured, peak)
    return real * NOT_GROUND_AT_MOST if kind in NO_EARTH else real
