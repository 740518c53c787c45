"""Which pose to start from: the delivered coordinates, a fit from there, or one that a search finds."""

from collections.abc import Iterable

from pipeline.errors import RegistrationFailed
from pipeline.volume_change.align import coarse, fine
from pipeline.volume_change.align.pair import Pose
from pipeline.volume_change.align.replicates import shows_shift
from pipeline.volume_change.types import Array

AGREES = 0.6  # share of agreeing anchors that only a right pose reaches
SURE = 0.9  # nothing can be better by BETTER
BETTER = 0.1  # gain in agreement for which the delivered coordinates are given up
FAINT = 0.02  # gain that is more than chance, of witnesses' shares: a small shift shows in the mean, hardly in shares
CLEARLY_BETTER = 0.15  # the same for a pose that was searched for
SAME_RELIEF = 0.68  # high-pass correlation that only a right pose reaches
FAR_RELIEF = 0.5  # the least of a pose far from the delivered one
FAR_OVERLAP = 0.4  # the same: small overlaps fit by chance
RIVAL = 0.1  # a pose elsewhere that is worse by less than this makes the best one doubtful
RIVAL_OVERLAP = 0.7  # unless it leaves this much less of the site in common: then it explains less
CONTRADICTED = 0.4  # share of the slopes below which most of what could show a shift speaks against a pose
LEAST_OVERLAP = 0.2
ROUNDS = 3  # of stepping to a better repeat


def best_pose(delivered: Pose) -> Pose:
    """Return the first that is good enough: the delivered coordinates, a fit from there, or one found by search.

    Raises:
        RegistrationFailed: If the site repeats itself and fits in several places about as well.
    """
    best, far = _near(delivered)
    if not far and best.agreement >= AGREES and best.overlap >= LEAST_OVERLAP and not is_contradicted(best):
        return best
    return _searched(best, far) or best


def is_contradicted(pose: Pose) -> bool:
    """Whether level ground alone speaks for a pose: it agrees nearly anywhere, and the slopes do not agree.

    So it looks where a survey lies wrong, but also where everything that stood on level ground was moved.
    """
    return pose.steep < CONTRADICTED and pose.correlation < FAR_RELIEF and pose.shows_slopes


def reach(pose: Pose) -> float:
    """Return how far a fit can pull, metres: within this the nearest fit is the right one."""
    return fine.PLANE_REACH * pose.pair.coarse[0].cell


def _near(delivered: Pose) -> tuple[Pose, list[Pose]]:
    """The better of the delivered heights and a fit close to them, and better fits that ran far away."""
    best = delivered.lifted()
    far: list[Pose] = []
    if min(best.agreement, best.steep) >= SURE:
        return best, far
    fits = [best.refined("robust M3C2 fit")]
    if fits[0].agreement < AGREES and delivered.pair.has_stable:
        # Most of the site may have changed: from its stable part the fit begins where the rest is in reach.
        fits.append(delivered.settled_on_stable("robust M3C2 fit"))
    for fitted in sorted(fits, key=lambda pose: -pose.agreement):
        better = _is_better(fitted, best)
        if fitted.moved > reach(fitted):
            far += [fitted] if better and _is_proven(fitted) else []
        elif better or min(fitted.agreement - best.agreement, fitted.steep - best.steep) > FAINT:
            level = best.levelled("robust M3C2 fit of height and tilt", best.pair.witnesses)
            if _shows_shift(fitted, level):
                return fitted, []
            if better:
                return level.levelled(level.how, best.pair.anchors), []
    return best, far


def _shows_shift(fitted: Pose, level: Pose) -> bool:
    """Whether the ground shows the horizontal part of a fit: by what it brings into place, or by its parts' accord."""
    gain = max(fitted.agreement - level.agreement, fitted.steep - level.steep)
    return gain > BETTER or shows_shift(level.pair.anchors, level.pair.later, level.matrix)


def _is_better(fitted: Pose, best: Pose) -> bool:
    """Whether clearly more of the site agrees under a fit, or clearly more of the slopes that can show a shift."""
    if fitted.agreement > best.agreement + BETTER:
        return fitted.agreement >= AGREES or best.correlation < SAME_RELIEF
    return (
        fitted.agreement > max(best.agreement, AGREES)
        and fitted.steep > max(best.steep + BETTER, AGREES)
        and best.slopes_speak_for(fitted, BETTER)
    )


def _is_proven(pose: Pose) -> bool:
    """Whether the relief itself speaks for a pose far from the delivered one: flat ground agrees with any other."""
    return pose.overlap >= FAR_OVERLAP and pose.correlation >= FAR_RELIEF


def _searched(best: Pose, far: list[Pose]) -> Pose | None:
    """The pose that a search finds, if it is clearly better than the best so far and has no rival."""
    pair = best.pair
    starts = (candidate.matrix for candidate in coarse.search(*pair.middle))
    found = far + _fitted(best, starts)
    if not found:
        return None
    top = max(found, key=_merit)
    # Where the ground repeats itself, a search may be off by a whole repeat: look there as well.
    for _ in range(ROUNDS):
        repeats = _fitted(top, coarse.repeats(*pair.middle, top.matrix))
        found += repeats
        before, top = top, max([top, *repeats], key=_merit)
        if top is before:
            break
    if not _is_found(top, best):
        return None
    if any(_is_rival(pose, top) for pose in found):
        raise RegistrationFailed(
            "The surveys fit in several places about as well: the site repeats itself.",
            remedy="Deliver the later survey in the coordinate system of the reference.",
            details=top.details,
        )
    return top


def _is_found(top: Pose, best: Pose) -> bool:
    """Whether a pose elsewhere is clearly better than the best one near by."""
    least = best.agreement + CLEARLY_BETTER if best.overlap >= LEAST_OVERLAP else AGREES
    if top.agreement > least:
        return top.agreement >= AGREES or best.correlation < SAME_RELIEF
    return (
        is_contradicted(best)
        and top.agreement >= max(best.agreement, AGREES)
        and top.steep >= AGREES
        and top.correlation >= SAME_RELIEF
    )


def _fitted(pose: Pose, starts: Iterable[Array]) -> list[Pose]:
    fits = (Pose(pose.pair, start, "").refined("relief search, robust M3C2 fit") for start in starts)
    return [fitted for fitted in fits if _is_proven(fitted)]


def _merit(pose: Pose) -> float:
    """Level ground agrees nearly anywhere, slopes only in place: both count."""
    return pose.agreement + pose.steep


def _is_rival(pose: Pose, top: Pose) -> bool:
    return (
        pose.apart(top) > reach(top)
        and pose.agreement > top.agreement - RIVAL
        and pose.steep > top.steep - RIVAL
        and pose.correlation > top.correlation - RIVAL
        and pose.overlap > RIVAL_OVERLAP * top.overlap
    )
