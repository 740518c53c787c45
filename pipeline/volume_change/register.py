"""Put the later survey on the reference, moving it only as far as the data show."""

from typing import Literal

import numpy as np
from shapely import MultiPolygon

from pipeline.clouds import Cloud
from pipeline.errors import RegistrationFailed
from pipeline.geometry.rigid import FREEDOMS, lift, turn_degrees
from pipeline.volume_change.align import coarse, fine
from pipeline.volume_change.align.cross_check import open3d_fit
from pipeline.volume_change.align.freedoms import ALL, HEIGHT, NOTHING, TILT, Evidence, choose_freedoms
from pipeline.volume_change.align.pair import Pair, Pose, shift_at
from pipeline.volume_change.align.samples import NORMAL_SPACINGS, THINNABLE, WITNESSES
from pipeline.volume_change.types import Notice, Registration

AGREES = 0.6  # share of agreeing anchors that only a right pose reaches
SURE = 0.9  # nothing can be better by BETTER
BETTER = 0.1  # gain in agreement for which the delivered coordinates are given up
CLEARLY_BETTER = 0.15  # the same for a pose that was searched for
SAME_RELIEF = 0.68  # high-pass correlation that only a right pose reaches
FAR_RELIEF = 0.5  # the least of a pose far from the delivered one
FAR_OVERLAP = 0.4  # the same: small overlaps fit by chance
RIVAL = 0.1  # a pose elsewhere that is worse by less than this makes the best one doubtful
LEAST_OVERLAP = 0.2
SURVEY_ERROR = 0.05  # m, spread that errors of sound surveys reach over many metres; another site differs by more
VALIDATED = 12_000  # anchors in the cross-validation
_SUFFIX = {
    NOTHING: "",
    HEIGHT: " + vertical offset",
    TILT: " + vertical offset and tilt",
    ALL: " + fit on stable ground",
}
_REMEDY = "Check that both surveys show the same site and come in the same coordinate system and unit."


def register(
    pre: Cloud,
    post: Cloud,
    stable: MultiPolygon,
    *,
    engine: Literal["auto", "none", "open3d"] = "auto",
    seed: int = 0,
) -> Registration:
    """Find the rigid motion of the later survey onto the reference.

    The delivered coordinates are the first hypothesis. They are given up for a robust fit, and that for a
    search over yaw and shift, only if clearly more of the site agrees. What remains is decided on stable
    ground: the fewest degrees of freedom that predict unseen blocks of it.

    Args:
        pre: Ground points of the reference.
        post: Ground points of the later survey, about the same origin.
        stable: Valid polygons of ground that did not move, local metres; may be empty.
        engine: ``auto``; ``none`` trusts the coordinates; ``open3d`` fits by Open3D as a cross-check.
        seed: Deals the blocks of the cross-validation.

    Raises:
        RegistrationFailed: If nothing fits, or the surveys hardly overlap.
        InputInvalid: If ``open3d`` is asked for and is not installed.

    Source:
        M3C2 (Lague et al. 2013, doi:10.1016/j.isprsjprs.2013.04.009) inside Gauss–Newton with Tukey weights.
    """
    pair = _pair(pre, post, stable)
    delivered = Pose(pair, np.eye(4), "identity")
    if engine == "none":
        return _trusted(delivered)
    pose = _open3d(delivered) if engine == "open3d" else _best(delivered)
    _require(pose)
    base = delivered if pose.how == delivered.how else pose
    free = _supported(base, seed)
    return _report(_settled_on_stable_ground(base, free), base, free)


def _pair(pre: Cloud, post: Cloud, stable: MultiPolygon) -> Pair:
    try:
        return Pair(pre, post, stable)
    except ValueError as reason:
        raise RegistrationFailed(
            f"The surveys cannot be compared: {reason}.",
            remedy="Deliver surveys with ground points all over the site.",
            details={"overlap": 0.0, "rmse": 0.0, "agreement": 0.0},
        ) from None


def _best(delivered: Pose) -> Pose:
    """The delivered coordinates, a fit from there, or one found by search: the first that is good enough."""
    best = delivered.lifted()
    if best.agreement < SURE:
        fitted = best.refined("robust M3C2 fit")
        trusted = fitted.agreement >= AGREES or best.correlation < SAME_RELIEF
        if fitted.agreement > best.agreement + BETTER and trusted and (_is_near(fitted) or _is_proven(fitted)):
            best = fitted
    if best.agreement >= AGREES and best.overlap >= LEAST_OVERLAP:
        return best
    return _searched(best) or best


def _searched(best: Pose) -> Pose | None:
    """The pose that a search finds, if it is clearly better than the best so far and has no rival."""
    found = [
        Pose(best.pair, candidate.matrix, "").refined("relief search, robust M3C2 fit")
        for candidate in coarse.search(*best.pair.middle)
    ]
    found = sorted(filter(_is_proven, found), key=lambda pose: -pose.agreement)
    if not found:
        return None
    top = found[0]
    least = best.agreement + CLEARLY_BETTER if best.overlap >= LEAST_OVERLAP else AGREES
    clear = top.agreement > least and (top.agreement >= AGREES or best.correlation < SAME_RELIEF)
    # Ground that repeats itself, or looks the same turned around, fits in several places: none is sure.
    rivals = [
        pose
        for pose in found[1:]
        if pose.apart(top) > _reach(top)
        and pose.agreement > top.agreement - RIVAL
        and pose.correlation > top.correlation - RIVAL
    ]
    return top if clear and not rivals else None


def _reach(pose: Pose) -> float:
    """How far a fit can pull, metres: within this the nearest fit is the right one."""
    return fine.PLANE_REACH * pose.pair.coarse[0].cell


def _is_near(pose: Pose) -> bool:
    return pose.moved <= _reach(pose)


def _is_proven(pose: Pose) -> bool:
    """Whether the relief itself speaks for a pose far from the delivered one: flat ground agrees with any other."""
    return pose.overlap >= FAR_OVERLAP and pose.correlation >= FAR_RELIEF


def _require(pose: Pose) -> None:
    """Refuse a pose that no witness speaks for."""
    spread = fine.spread(pose.seen.along[np.isfinite(pose.seen.along)])
    details = {
        "overlap": round(pose.overlap, 4),
        "rmse": round(spread, 4),
        "agreement": round(pose.agreement, 4),
    }
    if pose.overlap < LEAST_OVERLAP:
        raise RegistrationFailed(
            f"The surveys share only {pose.overlap:.0%} of the ground of the smaller one.",
            remedy=_REMEDY,
            details=details,
        )
    if pose.agreement < AGREES and pose.correlation < SAME_RELIEF and not spread <= SURVEY_ERROR:
        raise RegistrationFailed(
            f"The surveys cannot be put on top of each other: at best {pose.agreement:.0%} of the ground agrees.",
            remedy=_REMEDY,
            details=details,
        )


def _supported(base: Pose, seed: int) -> tuple[int, ...]:
    """The freedoms that the deciding ground supports beyond the base."""
    anchors, later = base.pair.deciding
    anchors = anchors.sampled(VALIDATED)
    as_it_lies = fine.distances(anchors, later, base.matrix)
    seen = fine.distances(anchors, later, lift(-as_it_lies.offset) @ base.matrix)
    found = np.isfinite(seen.along)
    if found.sum() < 3:
        return NOTHING
    points = anchors.points[found]
    site = np.ptp(np.quantile(base.pair.anchors.points[:, :2], [0.05, 0.95], axis=0), axis=0)
    covered = np.ptp(np.quantile(points[:, :2], [0.05, 0.95], axis=0), axis=0)
    # A square as large as the disc of a plane fit holds one independent patch.
    edge = np.sqrt(np.pi) * NORMAL_SPACINGS * base.pair.spacing
    evidence = Evidence(
        points=points,
        normals=anchors.normals[found],
        offset=as_it_lies.offset,
        along=seen.along[found],
        scale=seen.scale[found],
        radius=anchors.radius,
        patches=len(np.unique(np.floor(points[:, :2] / edge), axis=0)),
        spread=float((covered / np.maximum(site, 1e-9)).min()),
    )
    return choose_freedoms(evidence, seed)


def _settled_on_stable_ground(base: Pose, free: tuple[int, ...]) -> Pose:
    if not free:
        return base
    anchors, later = base.pair.deciding
    matrix, settled = fine.refine(anchors, later, base.matrix, free)
    return Pose(base.pair, matrix, base.how + _SUFFIX[free], settled)


def _report(pose: Pose, base: Pose, free: tuple[int, ...]) -> Registration:
    seen = pose.pair.judged(pose.matrix)
    freedoms = free if base.how == "identity" else ALL
    return Registration(
        matrix=pose.matrix,
        method=pose.how,
        converged=pose.settled and base.settled,
        overlap=pose.overlap,
        rmse=fine.spread(seen.along[np.isfinite(seen.along)]),
        inliers=seen.agreement,
        dof=tuple(FREEDOMS[k] for k in freedoms),
        stable_offset=pose.pair.judged(np.eye(4)).offset,
        warnings=_warnings(pose),
    )


def _trusted(delivered: Pose) -> Registration:
    """Report on the delivered coordinates without judging them, unless there is nothing to compare."""
    if delivered.overlap == 0:
        _require(delivered)
    return _report(delivered, delivered, NOTHING)


def _open3d(delivered: Pose) -> Pose:
    start = _best(delivered)
    pair = delivered.pair
    matrix = open3d_fit(pair.pre.sample(THINNABLE), pair.post.sample(THINNABLE), start.matrix, pair.spacing)
    return Pose(pair, matrix, f"{start.how}, Open3D point to plane")


def _warnings(pose: Pose) -> tuple[Notice, ...]:
    found = []
    shift = shift_at(pose.pair.post.sample(WITNESSES), pose.matrix)
    if pose.how.startswith("relief search"):
        found.append(
            Notice(
                "REGISTRATION_SEARCHED",
                f"The surveys' coordinates do not agree; the later one was moved by {np.hypot(*shift[:2]):.2f} m "
                f"and turned by {turn_degrees(pose.matrix):.2f}° to where its relief fits.",
            )
        )
    elif pose.how.startswith("robust"):
        found.append(
            Notice(
                "REGISTRATION_MOVED",
                f"The later survey was moved by {np.linalg.norm(shift):.3f} m and turned by "
                f"{turn_degrees(pose.matrix):.3f}° to lie on the reference.",
            )
        )
    return tuple(found)
