"""Robust fine registration: point to plane on thinned clouds, then M3C2 inside Gauss–Newton."""

from dataclasses import dataclass

import numpy as np

from pipeline.geometry.cells import CellList, cylinder_stats, normals
from pipeline.geometry.rigid import apply, jacobian, motion, unscaled
from pipeline.geometry.rigid_kernels import normal_equations
from pipeline.volume_change.align.samples import COLUMN, Anchors, Later, Thinned, upward
from pipeline.volume_change.types import Array, Mask

TUKEY = 4.685  # standard deviations: 95 % efficient for Gaussian noise
RIDGE = 1e-4  # of the mean diagonal: keeps what cannot be seen where it is
PLANE_STEPS = 30
PLANE_REACH = 3.0  # cells
PLANE_SETTLED = 0.002  # cells
STEPS = 15
SETTLED = 5e-5  # m
REWEIGHTINGS = 6
HALF_LENGTH_SIGMAS = 8.0
HALF_LENGTH_RADII = (2.0, 40.0)  # at least, at most
AGREEMENT_SIGMAS = 3.0
AGREEMENT_ROUGHNESS = 0.3  # of the roughness that a mean over a cylinder may still be off
_LEAST_SIGMA = 1e-6  # m
_TO_SIGMA = 1.4826  # median absolute deviation to standard deviation


@dataclass(frozen=True, slots=True)
class Distances:
    """What the anchors see of the later survey under one motion.

    Args:
        along: Later minus reference along the normals, metres, NaN where nothing was found, shape (m,).
        scale: Standard error to expect of a good fit, metres, shape (m,).
        seen: Whether the later survey has points above or below the anchor at all, shape (m,).
        upright: Later minus reference, vertically, metres, shape (m,).
    """

    along: Array
    scale: Array
    seen: Mask
    upright: Array

    @property
    def agreement(self) -> float:
        """Share of the anchors seen by both surveys whose distance is noise about the common median."""
        return float(self.agreeing[self.seen].mean()) if self.seen.any() else 0.0

    @property
    def agreeing(self) -> Mask:
        """The anchors seen by both surveys whose distance is noise about the common median, shape (m,)."""
        found = self.seen & np.isfinite(self.along)
        if not found.any():
            return found
        off = np.abs(self.along - np.median(self.along[found]))
        return np.asarray(found & (off <= AGREEMENT_SIGMAS * self.scale + _LEAST_SIGMA))

    @property
    def offset(self) -> float:
        """Median vertical distance, later − reference, metres; 0 where nothing was seen."""
        return float(np.median(self.upright[self.seen])) if self.seen.any() else 0.0


def distances(anchors: Anchors, later: Later, matrix: Array, sigma: float | None = None) -> Distances:
    """Compare the surveys at the anchors; the later one is moved by ``matrix``.

    The anchors are moved back instead, so that the later survey is indexed once. Each distance is
    between the means of *all* points in a cylinder, so the noise of single points averages out.

    Args:
        anchors: Where to compare.
        later: The later survey.
        matrix: Motion later → reference, 4 × 4.
        sigma: Spread of the distances to expect, metres; it sets the cylinders' length. None: measure it.

    Source:
        M3C2, Lague et al. (2013), doi:10.1016/j.isprsjprs.2013.04.009.
    """
    index = later.at(matrix)
    rotation = matrix[:3, :3]
    back = (anchors.points - matrix[:3, 3]) @ rotation
    # Upright in the later survey's own frame: a column this long must not lean.
    count, upright, _ = cylinder_stats(index, back, upward(len(back)), anchors.radius, COLUMN)
    upright = upright - anchors.upright
    low, high = (k * anchors.radius for k in HALF_LENGTH_RADII)
    found = upright[count > 0]
    middle = float(np.median(found)) if len(found) else 0.0
    # Heights above another datum lie out of every cylinder's reach: there the anchors are lifted by what lies between.
    lift = middle if abs(middle) > high / 2 else 0.0
    if sigma is None:
        sigma = spread(found - middle) + abs(middle - lift) / HALF_LENGTH_SIGMAS
    half = max(low, min(HALF_LENGTH_SIGMAS * sigma, high))
    lifted = back + lift * rotation[2]
    held, height, variance = cylinder_stats(index, lifted, anchors.normals @ rotation, anchors.radius, half)
    along = np.where(held > 1, height + lift * anchors.normals[:, 2], np.nan) - anchors.height
    error = anchors.variance + variance / np.maximum(held, 1)
    scale = np.sqrt(np.where(np.isfinite(error), error, 0) + (AGREEMENT_ROUGHNESS * anchors.roughness) ** 2)
    return Distances(along, scale, count > 0, upright)


def spread(values: Array) -> float:
    """Robust standard deviation about zero: 1.48 × the median of the absolute values, never 0."""
    return max(_TO_SIGMA * float(np.median(np.abs(values))), _LEAST_SIGMA) if len(values) else _LEAST_SIGMA


def tukey_weights(residuals: Array, sigma: float) -> Array:
    """Tukey's biweight: 1 in the middle, 0 beyond 4.7 standard deviations."""
    u = np.minimum(np.abs(residuals) / (TUKEY * sigma), 1.0)
    return np.asarray((1 - u * u) ** 2)


def robust_step(J: Array, r: Array, scale: Array, free: tuple[int, ...]) -> tuple[Array, float]:
    """Solve for the small motion that brings the distances to zero, whatever a part of them does.

    Args:
        J: Change of each distance by each of six freedoms, shape (m, 6).
        r: Distances, metres, shape (m,).
        scale: Standard error of each, metres, shape (m,); only their ratios matter.
        free: Columns that may move.

    Returns:
        The step, shape (6,), zero where not free, and the robust spread of what remains, metres.

    Source:
        Iteratively reweighted least squares with Tukey's biweight (Huber & Ronchetti, 2009).
    """
    relative = np.maximum(scale, 1e-9) / np.median(np.maximum(scale, 1e-9))
    A = np.ascontiguousarray(J[:, list(free)])
    step: Array = np.zeros(len(free))
    for _ in range(REWEIGHTINGS):
        left = (r + A @ step) / relative
        weights = tukey_weights(left, spread(left)) / relative**2
        H, g = normal_equations(A, weights, r)
        H += np.eye(len(free)) * max(RIDGE * np.trace(H) / len(free), 1e-12)
        step = -np.asarray(np.linalg.solve(H, g), dtype=np.float64)
    full = np.zeros(6)
    full[list(free)] = step
    return full, spread(r + A @ step)


def point_to_plane(source: Thinned, target: Thinned, matrix: Array) -> Array:
    """Move the thinned later survey onto the planes of the thinned reference; returns a better motion.

    Source:
        Chen & Medioni (1992), doi:10.1016/0262-8856(92)90066-C, with Tukey weights.
    """
    from scipy.spatial import cKDTree  # slow to load, and most pairs lie well as delivered

    index = CellList.build(target.points, 2.5 * target.cell)
    direction, _, count = normals(index, target.points, 2.5 * target.cell)
    target_points, direction = target.points[count >= 4], direction[count >= 4]
    if len(target_points) < 10:
        return matrix
    tree = cKDTree(target_points)
    centre = target_points.mean(axis=0)
    radius = max(float(np.sqrt(target_points[:, :2].var(axis=0).sum())), source.cell)
    for _ in range(PLANE_STEPS):
        moved = apply(matrix, source.points)
        distance, hit = tree.query(moved, distance_upper_bound=PLANE_REACH * target.cell, workers=-1)
        near = np.isfinite(distance)
        if near.sum() < 10:
            return matrix
        nearest = np.asarray(hit)[near]
        normal = direction[nearest]
        r = np.einsum("ij,ij->i", moved[near] - target_points[nearest], normal)
        J = jacobian(moved[near], normal, centre, radius)
        step, _ = robust_step(J, r, np.ones(len(r)), (0, 1, 2, 3, 4, 5))
        matrix = motion(unscaled(step, radius), centre) @ matrix
        if np.abs(step).max() < PLANE_SETTLED * source.cell:
            break
    return matrix


def refine(
    anchors: Anchors, later: Later, matrix: Array, free: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
) -> tuple[Array, bool]:
    """Gauss–Newton on the M3C2 distances of the anchors.

    Args:
        anchors: Where the surveys should agree.
        later: The later survey.
        matrix: A motion that is good to about a cylinder's length, 4 × 4.
        free: The freedoms that may change, as positions in ``FREEDOMS``.

    Returns:
        The better motion, and whether the steps had become smaller than ``SETTLED``.
    """
    if len(anchors) < len(free):
        return matrix, False
    centre = anchors.points.mean(axis=0)
    radius = max(float(np.sqrt(anchors.points[:, :2].var(axis=0).sum())), anchors.radius)
    sigma: float | None = None
    for _ in range(STEPS):
        seen = distances(anchors, later, matrix, sigma)
        found = np.isfinite(seen.along)
        if found.sum() < 2 * len(free):
            return matrix, False
        J = jacobian(anchors.points[found], anchors.normals[found], centre, radius)
        step, sigma = robust_step(J, seen.along[found], seen.scale[found], free)
        matrix = motion(unscaled(step, radius), centre) @ matrix
        if np.abs(step).max() < SETTLED:
            return matrix, True
    return matrix, False
