"""Which points are ground: by the files' own classes, or by a morphological filter."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.abreast import both
from pipeline.clouds import Cloud, PointCloud
from pipeline.contracts import Helpers
from pipeline.errors import InputInvalid
from pipeline.tiled.cloud import TiledCloud
from pipeline.volume_change.ground_filter import ground_surface
from pipeline.volume_change.types import Notice

GROUND_CLASSES = (2, 8)  # ground; model key points, the ground of LAS 1.3 and before
NOISE_CLASSES = (7, 18)
WATER_CLASS = 9

ENOUGH_GROUND = 0.02  # share of class 2 below which a file counts as not classified
FEWEST_GROUND = 50
DENSITY_RATIO = 3.0  # between the surveys' ground shares; beyond it their classes mean different things

_UNCLASSIFIED = (0, 1)


@dataclass(frozen=True, slots=True)
class Ground:
    """Both surveys, split into ground and what stands on it.

    Args:
        pre: Ground points of the reference survey.
        post: Ground points of the later survey.
        pre_above: Vegetation, objects and whatever else is not ground; no noise, and no water if classes told.
        post_above: The same of the later survey.
        method: How ground was told apart, in words.
        notices: What the user should know.
    """

    pre: Cloud
    post: Cloud
    pre_above: Cloud
    post_above: Cloud
    method: str
    notices: tuple[Notice, ...] = ()


def select_ground(
    pre: Cloud,
    post: Cloud,
    mode: Literal["auto", "classified", "filter", "all"] = "auto",
    *,
    helpers: Helpers | None = None,
) -> Ground:
    """Split both surveys into ground and the rest, both by the same rule.

    Args:
        pre: Reference survey, all returns.
        post: Later survey, all returns.
        mode: ``classified``: class 2; ``filter``: a morphological filter; ``all``: every point but noise;
            ``auto``: class 2 where both surveys have it, else the filter.
        helpers: Who may filter a survey that lies in tiles.

    Raises:
        InputInvalid: If ``classified`` is asked for and a survey has no ground class.

    Source:
        ASPRS LAS 1.4 R15, table 17, for the classes; the filter is described at ``ground_filter.ground_surface``.
    """
    notices: list[Notice] = []
    if mode == "auto":
        mode = _choose(pre, post, notices)
    if mode == "classified":
        for label, cloud in (("pre", pre), ("post", post)):
            if not _count(cloud, GROUND_CLASSES):
                raise InputInvalid(
                    f"{cloud.name or label} has no points classified as ground (class 2)",
                    label=label,
                    remedy="Classify the ground, or let Volcal filter it: ground=auto.",
                )
        notices.extend(_different_conventions(pre, post))
        skipped = (*NOISE_CLASSES, WATER_CLASS)
        (ground, above), (ground2, above2) = both(_split_by_class, (pre, skipped), (post, skipped))
        return Ground(ground, ground2, above, above2, "classified ground (class 2)", tuple(notices))
    pre, post = (_without(cloud, NOISE_CLASSES) for cloud in (pre, post))
    if mode == "all":
        return Ground(pre, post, _nothing(pre), _nothing(post), "all points", tuple(notices))
    (ground, above), (ground2, above2) = _split_both(pre, post, helpers)
    return Ground(ground, ground2, above, above2, "morphological ground filter", tuple(notices))


def _split_both(pre: Cloud, post: Cloud, helpers: Helpers | None) -> tuple[tuple[Cloud, Cloud], tuple[Cloud, Cloud]]:
    """Split both surveys by their shape, with the help of others where they lie in tiles."""
    tiled = [cloud for cloud in (pre, post) if isinstance(cloud, TiledCloud) and cloud.part is None]
    if helpers is None or len(tiled) < 2:
        return both(_split_by_shape, (pre,), (post,))
    from pipeline.volume_change.parts.ground import split_together  # only runs that others help with need it

    first, second = split_together(helpers, tiled[0], tiled[1])
    return first or (pre, _nothing(pre)), second or (post, _nothing(post))


def _split_by_shape(cloud: Cloud) -> tuple[Cloud, Cloud]:
    try:
        spacing = cloud.spacing()
    except ValueError:
        return cloud, _nothing(cloud)
    surface = ground_surface(cloud, spacing)
    ground, above = cloud.split(lambda block: surface.tell(block.points), 1, 2)
    return ground, above


def _split_by_class(cloud: Cloud, skipped: tuple[int, ...]) -> tuple[Cloud, Cloud]:
    parts = np.full(256, 2, np.uint8)
    parts[list(skipped)] = 0
    parts[list(GROUND_CLASSES)] = 1
    ground, above = cloud.split(lambda block: parts[block.classes], 1, 2)
    return ground, above


def _count(cloud: Cloud, classes: tuple[int, ...]) -> int:
    return 0 if cloud.class_counts is None else int(cloud.class_counts[list(classes)].sum())


def _nothing(cloud: Cloud) -> Cloud:
    return PointCloud(np.zeros((0, 3)), cloud.origin, None, cloud.crs, cloud.name)


def _without(cloud: Cloud, classes: tuple[int, ...]) -> Cloud:
    if not _count(cloud, classes):
        return cloud
    unwanted = np.zeros(256, dtype=bool)
    unwanted[list(classes)] = True
    return cloud.where(lambda block: ~unwanted[block.classes])


def _is_classified(cloud: Cloud) -> bool:
    return _count(cloud, GROUND_CLASSES) >= max(FEWEST_GROUND, ENOUGH_GROUND * len(cloud))


def _choose(pre: Cloud, post: Cloud, notices: list[Notice]) -> Literal["classified", "filter"]:
    """Decide what ``auto`` means for this pair, and say so where it is not plain."""
    told = [_is_classified(cloud) for cloud in (pre, post)]
    if all(told):
        return "classified"
    if any(told):
        with_classes, without = ("reference", "later") if told[0] else ("later", "reference")
        notices.append(
            Notice(
                "GROUND_CLASSES_UNUSED",
                f"Only the {with_classes} survey is classified; the {without} one is not, so the ground of both "
                "was told apart by its shape.",
            )
        )
    return "filter"


def _different_conventions(pre: Cloud, post: Cloud) -> list[Notice]:
    """Say where the two files' classes seem to mean different things."""
    found = []
    sets = [
        set(np.flatnonzero(cloud.class_counts > 0.005 * len(cloud)).tolist()) - {*_UNCLASSIFIED, *NOISE_CLASSES}
        for cloud in (pre, post)
        if cloud.class_counts is not None
    ]
    only = [", ".join(map(str, sorted(a - b))) or "none" for a, b in (sets, sets[::-1])]
    if sets[0] != sets[1]:
        found.append(
            Notice(
                "CLASSES_DIFFER",
                "The surveys were classified by different rules (classes only in the reference survey: "
                f"{only[0]}; only in the later one: {only[1]}); what counts as ground may differ at their edges.",
            )
        )
    shares = [_count(cloud, GROUND_CLASSES) / len(cloud) for cloud in (pre, post)]
    if max(shares) > DENSITY_RATIO * min(shares):
        found.append(
            Notice(
                "GROUND_SHARE_DIFFERS",
                f"Ground is {shares[0]:.0%} of the reference survey's points and {shares[1]:.0%} of the later "
                "one's: the two were probably not classified alike.",
            )
        )
    return found
