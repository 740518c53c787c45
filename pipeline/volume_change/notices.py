"""What the user must know about the ground that the errors were judged on."""

import numpy as np

from pipeline.volume_change.types import Difference, ErrorModel, Notice, Registration
from pipeline.volume_change.uncertainty.covariance import Covariance
from pipeline.volume_change.uncertainty.stable import StableGround

SMALLEST_OFFSET = 0.01  # m
SIGNIFICANT = 3.0  # standard errors
VERTICAL = {"z", "roll", "pitch"}
FEW_CELLS = 50
FEW_PATCHES = 8.0  # independent patches of correlated error below which its size is a guess
LOW_COVERAGE = 0.8


def notices_of(
    registration: Registration, errors: ErrorModel, stable: StableGround, diff: Difference, covariance: Covariance
) -> tuple[Notice, ...]:
    """Return what is worth saying about offset, stable ground and coverage."""
    found = [
        _offset(registration, errors),
        _few_points(stable, errors),
        _small_area(errors, covariance),
        _coverage(diff),
    ]
    return tuple(notice for notice in found if notice is not None)


def _offset(registration: Registration, errors: ErrorModel) -> Notice | None:
    left = float(errors.extra["offset_left"])
    independent = min(float(errors.extra["cells"]), float(errors.extra["independent_patches"]))
    error = errors.sigma / max(independent, 1.0) ** 0.5
    removed = errors.bias - left
    # A survey that was turned or shifted in plan as well is the registration's story to tell.
    if set(registration.dof) <= VERTICAL and abs(removed) > max(SIGNIFICANT * error, SMALLEST_OFFSET):
        return Notice(
            "STABLE_GROUND_OFFSET",
            f"The surveys disagree by {_signed(removed)} m on stable ground (the later one lies "
            f"{'lower' if removed < 0 else 'higher'}); this was removed. A different vertical datum is a common cause.",
        )
    if abs(left) > max(SIGNIFICANT * error, SMALLEST_OFFSET):
        return Notice(
            "STABLE_GROUND_OFFSET",
            f"The surveys disagree by {_signed(left)} m on stable ground after the registration "
            f"({registration.method}); it was left in and counts as error in every interval.",
        )
    return None


def _signed(metres: float) -> str:
    digits = 2 if abs(metres) >= 0.1 else 3
    return f"{metres:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _few_points(stable: StableGround, errors: ErrorModel) -> Notice | None:
    cells = int(errors.extra["cells"])
    if cells >= FEW_CELLS:
        return None
    return Notice(
        "FEW_STABLE_POINTS",
        f"The stable polygons hold only {cells} cells ({stable.pre_points} and {stable.post_points} points) that both "
        "surveys saw; the error estimate rests on little. Larger polygons would make it surer.",
    )


def _small_area(errors: ErrorModel, covariance: Covariance) -> Notice | None:
    patches = float(errors.extra["independent_patches"])
    notable = covariance.sill > 0.1 * errors.nugget
    if patches >= FEW_PATCHES or not notable:
        return None
    return Notice(
        "STABLE_AREA_SMALL_FOR_CORRELATION",
        f"Errors are related over {errors.correlation_length:.0f} m, and the stable ground ({errors.area:.0f} m²) "
        f"holds only about {max(patches, 1):.0f} independent patches of that size; intervals are widened for it.",
    )


def _coverage(diff: Difference) -> Notice | None:
    either = np.isfinite(diff.before) | np.isfinite(diff.after)
    share = float(np.isfinite(diff.change).sum()) / max(float(either.sum()), 1.0)
    if share >= LOW_COVERAGE:
        return None
    return Notice(
        "LOW_COVERAGE",
        f"Only {100 * share:.0f} % of the ground in the common area was seen by both surveys; "
        "change elsewhere cannot be measured.",
    )
