"""A pair of surveys, sampled once, and what a motion of the later one looks like."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from shapely import MultiPolygon

from pipeline.abreast import both
from pipeline.clouds import Cloud
from pipeline.geometry.rigid import apply, inverse, lift
from pipeline.volume_change.align import coarse, fine, samples, slopes
from pipeline.volume_change.align.freedoms import ALL, NOTHING, TILT
from pipeline.volume_change.types import Array

FEWEST_STABLE = 40  # anchors in the stable polygons; with fewer the whole site decides


class Pair:
    """Two surveys with fixed budgets of samples, each made when it is first needed.

    Args:
        pre: Ground of the reference.
        post: Ground of the later survey.
        stable: Ground that did not move, in the reference's frame; may be empty.

    Raises:
        ValueError: If a survey has no two points at different places.
    """

    def __init__(self, pre: Cloud, post: Cloud, stable: MultiPolygon) -> None:
        self.pre = pre
        self.post = post
        self.stable = stable
        self._judged: tuple[Array, fine.Distances] | None = None
        self.spacing = float(max(both(lambda cloud: cloud.spacing(), (pre,), (post,))))

    @cached_property
    def anchors(self) -> samples.Anchors:
        """Anchors over the whole site."""
        return samples.spread_anchors(self.pre, self.spacing, self._region)

    @cached_property
    def witnesses(self) -> samples.Anchors:
        """A part of the anchors, enough to count how many agree."""
        return self.anchors.sampled(samples.WITNESSES)

    @cached_property
    def information(self) -> Array:
        """How much each witness tells of a horizontal shift, 1/m², shape (m,)."""
        return slopes.information(self.witnesses)

    @property
    def patch(self) -> float:
        """Edge of a square as large as the disc of a plane fit, metres: it holds one independent patch."""
        return float(np.sqrt(np.pi)) * samples.NORMAL_SPACINGS * self.spacing

    @cached_property
    def later(self) -> samples.Later:
        """The later survey as the anchors see it."""
        return samples.Later(self.post, self.spacing, self._region)

    @cached_property
    def stable_anchors(self) -> samples.Anchors:
        """Anchors in the stable polygons; may be none."""
        return samples.spread_anchors(self.pre, self.spacing, self._stable_region, self.stable)

    @cached_property
    def stable_later(self) -> samples.Later:
        """The later survey as the stable anchors see it."""
        return samples.Later(self.post, self.spacing, self._stable_region)

    @property
    def has_stable(self) -> bool:
        """Whether enough anchors lie on stable ground."""
        return not self.stable.is_empty and len(self.stable_anchors) >= FEWEST_STABLE

    @property
    def deciding(self) -> tuple[samples.Anchors, samples.Later]:
        """The anchors that judge a registration: those on stable ground if there are enough."""
        return (self.stable_anchors, self.stable_later) if self.has_stable else (self.anchors, self.later)

    def judged(self, matrix: Array) -> fine.Distances:
        """The distances of the deciding anchors under a motion; the last one is remembered."""
        if self._judged is None or not np.array_equal(self._judged[0], matrix):
            self._judged = matrix, fine.distances(*self.deciding, matrix)
        return self._judged[1]

    @cached_property
    def coarse(self) -> tuple[samples.Thinned, samples.Thinned]:
        """Both surveys, thinned to a few thousand points."""
        return self._thinned(samples.COARSE_SPACINGS, samples.COARSE)

    @cached_property
    def middle(self) -> tuple[samples.Thinned, samples.Thinned]:
        """Both surveys, thinned to some ten thousand points."""
        return self._thinned(samples.MIDDLE_SPACINGS, samples.MIDDLE)

    def _thinned(self, spacings: float, budget: int) -> tuple[samples.Thinned, samples.Thinned]:
        options = self.spacing, spacings, budget
        pre, post = (cloud.sample(samples.THINNABLE) for cloud in (self.pre, self.post))
        return both(samples.thinned, (pre, *options), (post, *options))

    @cached_property
    def _region(self) -> samples.Region:
        return samples.tiles(self.pre, self.spacing, None)

    @cached_property
    def _stable_region(self) -> samples.Region:
        return samples.tiles(self.pre, self.spacing, self.stable)


@dataclass(frozen=True)
class Pose:
    """A motion of the later survey and how well it fits.

    Args:
        pair: The surveys.
        matrix: Later → reference, 4 × 4.
        how: What led to it, in words.
        settled: Whether the iteration converged.
        freed: What was estimated to get here, as positions in ``FREEDOMS``.
    """

    pair: Pair
    matrix: Array
    how: str
    settled: bool = True
    freed: tuple[int, ...] = NOTHING

    @cached_property
    def seen(self) -> fine.Distances:
        """The distances at the witnesses."""
        return fine.distances(self.pair.witnesses, self.pair.later, self.matrix)

    @cached_property
    def agreement(self) -> float:
        """Share of the anchors that agree."""
        return self.seen.agreement

    @cached_property
    def steep(self) -> float:
        """The same share with each anchor weighted by what it tells of a horizontal shift: agreement of the slopes."""
        weights = np.where(self.seen.seen, self.pair.information, 0.0)
        return float(weights @ self.seen.agreeing / weights.sum()) if weights.sum() > 0 else 0.0

    @cached_property
    def shows_slopes(self) -> bool:
        """Whether what both surveys show has slopes in enough places to tell of a horizontal shift."""
        seen = self.seen.seen
        points, weights = self.pair.witnesses.points[seen], self.pair.information[seen]
        return slopes.effective_patches(points, weights, self.pair.patch) >= slopes.FEWEST_PATCHES

    @cached_property
    def correlation(self) -> float:
        """High-pass correlation of both reliefs."""
        return coarse.high_pass_correlation(self.pair.pre, self.pair.post, self.matrix, self.pair.spacing)

    @cached_property
    def overlap(self) -> float:
        """Share of the smaller footprint that both saw."""
        return coarse.overlap(*self.pair.middle, self.matrix)

    @property
    def rmse(self) -> float:
        """Robust spread of the distances about zero, metres."""
        return fine.spread(self.seen.along[np.isfinite(self.seen.along)])

    @property
    def details(self) -> dict[str, float]:
        """What is said of a pose that is refused."""
        told = {"overlap": self.overlap, "rmse": self.rmse, "agreement": self.agreement}
        return {name: round(value, 4) for name, value in told.items()}

    @cached_property
    def moved(self) -> float:
        """How far the site moves sideways, root mean square, metres."""
        points = self.pair.witnesses.points
        shifts = (apply(self.matrix, points) - points)[:, :2]
        return float(np.sqrt((shifts**2).sum(axis=1).mean())) if len(points) else 0.0

    def apart(self, other: "Pose") -> float:
        """How far two poses put the same site from each other, root mean square, metres."""
        points = self.pair.post.sample(samples.WITNESSES)
        return float(np.sqrt(((apply(self.matrix, points) - apply(other.matrix, points)) ** 2).sum(axis=1).mean()))

    def slopes_speak_for(self, fitted: "Pose", gain: float) -> bool:
        """Whether slopes on either side of the shift to a fit agree more by it, by a share of at least ``gain``."""
        anchors = self.pair.witnesses
        shifts = apply(fitted.matrix, apply(inverse(self.matrix), anchors.points)) - anchors.points
        held = self.seen.seen & fitted.seen.seen
        then, now = (pose.seen.agreeing[held] for pose in (self, fitted))
        return slopes.both_sides_gain(anchors.select(held), shifts[held, :2], then, now, gain, self.pair.patch)

    def lifted(self) -> "Pose":
        """Return the pose with the median height difference taken away."""
        return Pose(self.pair, lift(-self.seen.offset) @ self.matrix, self.how)

    def settled_on_stable(self, how: str) -> "Pose":
        """Return the robust fit to the whole site that starts from a fit to its stable part."""
        anchors, later = self.pair.deciding
        matrix = lift(-self.pair.judged(self.matrix).offset) @ self.matrix
        matrix, _ = fine.refine(anchors, later, matrix)
        matrix, settled = fine.refine(self.pair.anchors, self.pair.later, matrix)
        return Pose(self.pair, matrix, how, settled, ALL)

    def levelled(self, how: str, anchors: samples.Anchors) -> "Pose":
        """Return the robust fit in height and tilt that starts here."""
        matrix, settled = fine.refine(anchors, self.pair.later, self.matrix, TILT)
        return Pose(self.pair, matrix, how, settled, TILT)

    def refined(self, how: str) -> "Pose":
        """Return the robust coarse-to-fine fit that starts here."""
        matrix = self.matrix
        for pre, post in (self.pair.coarse, self.pair.middle):
            matrix = fine.point_to_plane(post, pre, matrix)
        matrix, settled = fine.refine(self.pair.anchors, self.pair.later, matrix)
        return Pose(self.pair, matrix, how, settled, ALL)


def shift_at(points: Array, matrix: Array) -> Array:
    """Return how far a motion moves the middle of the points, metres, shape (3,)."""
    middle = points.mean(axis=0, keepdims=True)
    return np.asarray((apply(matrix, middle) - middle)[0])
