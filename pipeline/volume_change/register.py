"""Put the later survey on the reference, moving it only as far as the data show."""

from typing import Literal

import numpy as np
from shapely import MultiPolygon

from pipeline.clouds import Cloud
from pipeline.errors import RegistrationFailed
from pipeline.geometry.rigid import FREEDOMS, lift, turn_degrees
from pipeline.volume_change.align import fine
from pipeline.volume_change.align.choice import AGREES, LEAST_OVERLAP, SAME_RELIEF, best_pose, is_contradicted
from pipeline.volume_change.align.cross_check import open3d_fit
from pipeline.volume_change.align.freedoms import ALL, HEIGHT, NOTHING, TILT, Evidence, choose_freedoms
from pipeline.volume_change.align.pair import Pair, Pose, shift_at
from pipeline.volume_change.align.samples import THINNABLE, WITNESSES
from pipeline.volume_change.types import Notice, Registration

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
    pose = _open3d(delivered) if engine == "open3d" else best_pose(delivered)
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


def _require(pose: Pose) -> None:
    """Refuse a pose that no witness speaks for."""
    details = pose.details
    if pose.overlap < LEAST_OVERLAP:
        raise RegistrationFailed(
            f"The surveys share only {pose.overlap:.0%} of the ground of the smaller one.",
            remedy=_REMEDY,
            details=details,
        )
    if pose.agreement < AGREES and pose.correlation < SAME_RELIEF and not pose.rmse <= SURVEY_ERROR:
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
    evidence = Evidence(
        points=points,
        normals=anchors.normals[found],
        offset=as_it_lies.offset,
        along=seen.along[found],
        scale=seen.scale[found],
        radius=anchors.radius,
        patches=len(np.unique(np.floor(points[:, :2] / base.pair.patch), axis=0)),
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
    freedoms = sorted({*base.freed, *free})
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
    start = best_pose(delivered)
    pair = delivered.pair
    matrix = open3d_fit(pair.pre.sample(THINNABLE), pair.post.sample(THINNABLE), start.matrix, pair.spacing)
    return Pose(pair, matrix, f"{start.how}, Open3D point to plane", freed=ALL)


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
    if is_contradicted(pose):
        found.append(
            Notice(
                "POSITION_UNCONFIRMED",
                f"Only level ground agrees: {pose.steep:.0%} of the slopes do. The surveys may lie apart in plan, or "
                "everything that stood there was moved.",
            )
        )
    return tuple(found)
