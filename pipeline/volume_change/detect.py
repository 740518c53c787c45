"""From two registered ground clouds to scored hulls with volumes and intervals."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import binary_dilation

from pipeline.abreast import both, meanwhile
from pipeline.clouds import Cloud
from pipeline.contracts import Helpers, Report
from pipeline.tiled.cloud import TiledCloud
from pipeline.volume_change.comparison.border import seen_shares
from pipeline.volume_change.comparison.difference import (
    Surface,
    across_gaps,
    choose_cell,
    common_raster,
    compare,
    like_neighbours,
    surface,
)
from pipeline.volume_change.comparison.m3c2 import in_hulls, m3c2_map
from pipeline.volume_change.comparison.standing import Above, put_back, see_above
from pipeline.volume_change.delineation.changes import Changes, find_changes
from pipeline.volume_change.delineation.growth import Field, Labels
from pipeline.volume_change.delineation.hulls import centre_of, outline
from pipeline.volume_change.delineation.score import NO_EARTH, Higher, appearance, ground_probability, kind_of, score_of
from pipeline.volume_change.delineation.seams import split_seams
from pipeline.volume_change.ground import Ground
from pipeline.volume_change.notices import notices_of
from pipeline.volume_change.types import (
    EIGHT,
    Analysis,
    Array,
    CorePoints,
    Difference,
    ErrorModel,
    Hull,
    Kind,
    Mask,
    Raster,
    Registration,
    Surveys,
)  # fmt: skip
from pipeline.volume_change.uncertainty.bumps import bumps
from pipeline.volume_change.uncertainty.covariance import Covariance, estimate
from pipeline.volume_change.uncertainty.stable import NMAD, StableGround, error_model, stable_ground, trusted
from pipeline.volume_change.uncertainty.volumes import Measured, around, measure, site_totals, totals

BACKGROUND_GAP = 2.0  # m, and at least three cells: from hulls to what counts as unchanged
NOISIER = 2.5  # a background this much noisier than the stable ground is a different ground, or changed


@dataclass(frozen=True, slots=True)
class _Grids:
    """Both surveys on one raster."""

    diff: Difference
    before: Surface
    after: Surface
    above: tuple[Array, Array]  # share of points that are not ground, of each survey, shape (rows, cols)
    trusted: Mask  # cells whose ground is ground, or may be
    whole: tuple[Mask, Mask]  # what a ground filter took whole from each survey, put back to be looked at


def detect(
    surveys: Surveys,
    ground: Ground,
    registration: Registration,
    *,
    cell: float | None,
    min_score: float,
    report: Callable[[float, str], None],
    helpers: Helpers | None = None,
) -> Analysis:
    """Compare two surveys: what changed, by how much, and how sure each figure is.

    Args:
        surveys: What was read; its stable polygons say which ground did not move.
        ground: The ground points of both surveys, and what stands above the ground.
        registration: How the later survey is moved onto the reference.
        cell: Edge of a grid cell, m; None = three times the point spacing.
        min_score: Hulls that score less are left out.
        report: Called with the fraction done, 0 to 1, and the stage's name.
        helpers: Who may do parts of it where the surveys lie in tiles.

    Raises:
        RegistrationFailed: If the surveys do not overlap.
        StableAreaEmpty: If too little stable ground was seen by both surveys.
    """
    moved = not np.array_equal(registration.matrix, np.eye(4))
    post = ground.post.moved(registration.matrix) if moved else ground.post
    report(0.05, "comparing heights")
    grids = _grids(ground, post, registration, cell, helpers)
    diff, raster = grids.diff, grids.diff.raster
    usable, plain = np.isfinite(diff.change) & grids.trusted, ~binary_dilation(np.logical_or(*grids.whole), EIGHT)
    stable = trusted(stable_ground(diff, surveys.stable, grids.before.count, grids.after.count), usable & plain)
    errors, covariance = error_model(diff, stable, delivered=registration.stable_offset if moved else None)
    along_normals = _along_normals(ground.pre, post, diff, errors, helpers, report)
    report(0.35, "finding changes")
    shares = seen_shares(grids.before.count, grids.after.count)
    field = Field(diff.change, diff.variance, usable, covariance, raster.cell, *shares)
    bridged = across_gaps(diff)
    changes = find_changes(field, stable.cells, bridged)
    field = replace(field, covariance=_background(field, changes, stable, errors))
    report(0.55, "measuring")
    blocks = (block.points for block in post.blocks())
    seams = split_seams(changes, field, grids.before.height, grids.before.variance, blocks, raster)
    measured = measure(changes, field, seams)
    hulls, order, kinds = _hulls(measured, changes, field, grids, covariance, min_score, ground.method)
    labels = _renumbered(changes.labels, order)
    earth = np.array([True, *(kind not in NO_EARTH for kind in kinds)])[changes.labels]
    bare = replace(diff, change=np.where(earth & (field.usable | (changes.labels > 0)), diff.change, np.nan))
    whole = np.where((changes.labels > 0) & earth, changes.change, like_neighbours(bare))
    centred = stable.cells if "z" in registration.dof else None
    report(0.7, "measuring along normals")
    core = in_hulls(along_normals(), raster, labels)
    report(1.0, "measuring along normals")
    return Analysis(
        surveys=surveys,
        registration=registration,
        errors=errors,
        difference=replace(diff, change=np.where(labels > 0, changes.change, diff.change)),
        core=core,
        hulls=hulls,
        labels=labels,
        totals=totals(tuple(measured[i] for i in order), changes, field, sum(hull.area for hull in hulls)),
        site=site_totals(measured, changes, field, whole, centred),
        warnings=(*ground.notices, *notices_of(registration, errors, stable, diff, field.covariance)),
    )


def _along_normals(
    pre: Cloud, post: Cloud, diff: Difference, errors: ErrorModel, helpers: Helpers | None, report: Report
) -> Callable[[], CorePoints]:
    """Begin to measure along normals, with the help of others where the surveys lie in tiles."""
    if helpers is None or not (isinstance(pre, TiledCloud) and isinstance(post, TiledCloud)):
        return meanwhile(m3c2_map, pre, post, diff, errors)
    from pipeline.volume_change.parts.normals import measure_together

    return measure_together(
        helpers, pre, post, diff, errors, lambda fraction, stage: report(0.7 + 0.3 * fraction, stage)
    )


def _binned(
    pre: Cloud, post: Cloud, pre_above: Cloud, post_above: Cloud, raster: Raster, helpers: Helpers | None
) -> tuple[tuple[Surface, Surface], tuple[Above, Above]]:
    """Bin the ground of both surveys, and what stands above it."""
    if helpers is not None and isinstance(pre, TiledCloud) and isinstance(post, TiledCloud):
        from pipeline.volume_change.parts.heights import bin_together

        (before, low), (after, high) = bin_together(helpers, (pre, pre_above), (post, post_above), raster)
        return (before, after), (low, high)
    before, after = both(surface, (pre, raster), (post, raster))
    return (before, after), both(see_above, (pre_above, before, raster), (post_above, after, raster))


def _grids(
    ground: Ground, post: Cloud, registration: Registration, cell: float | None, helpers: Helpers | None
) -> _Grids:
    """Bin both surveys into cells of one raster."""
    edge = choose_cell(*both(lambda cloud: cloud.spacing(), (ground.pre,), (post,)), cell)
    raster = common_raster(ground.pre, post, edge)
    taken = ground.post_above.moved(registration.matrix)
    (before, after), above = _binned(ground.pre, post, ground.pre_above, taken, raster, helpers)
    if "filter" not in ground.method:
        # Classified ground was found beneath the plants, and stands.
        none = np.zeros((raster.rows, raster.cols), dtype=bool)
        return _Grids(
            compare(before, after, raster), before, after, (above[0].share, above[1].share), ~none, (none, none)
        )
    epochs = (before, above[0]), (after, above[1])
    old, new = both(
        put_back,
        (ground.pre, ground.pre_above, *epochs, raster),
        (post, taken, *epochs[::-1], raster),
    )
    return _Grids(
        compare(old.surface, new.surface, raster),
        old.surface,
        new.surface,
        (old.above, new.above),
        ~(old.doubtful | new.doubtful),
        (old.whole, new.whole),
    )


def _gap(field: Field) -> int:
    """Cells from hulls to what counts as unchanged."""
    return max(3, round(BACKGROUND_GAP / field.cell))


def _background(field: Field, changes: Changes, stable: StableGround, errors: ErrorModel) -> Covariance:
    """Estimate the covariance again from all ground that seems unchanged: the stable polygons may be small."""
    quiet = ~binary_dilation(changes.labels > 0, EIGHT, iterations=_gap(field))
    quiet &= field.usable
    rest = field.change[quiet & ~stable.cells]
    own = field.covariance
    if len(rest) < np.count_nonzero(stable.cells) / 4:
        return own
    noise = NMAD * float(np.median(np.abs(rest)))
    if noise > NOISIER * max(errors.sigma, 1e-12):
        return own
    wider = estimate(field.change, field.variance, quiet | (stable.cells & field.usable), field.cell)
    return replace(wider, offset=own.offset)


def _hulls(
    measured: tuple[Measured, ...],
    changes: Changes,
    field: Field,
    grids: _Grids,
    stable: Covariance,
    min_score: float,
    method: str,
) -> tuple[tuple[Hull, ...], list[int], list[Kind]]:
    """Return the hulls that score enough, best first, the position of each in ``measured``, and the kind of all."""
    higher = {
        sign: Higher(np.where(field.usable, survey.height, np.nan), survey.roughness, above, whole)
        for sign, survey, above, whole in zip(
            (-1, 1), (grids.before, grids.after), grids.above, grids.whole, strict=True
        )
    }
    usual = max(each.usual for each in higher.values())
    others = bumps(changes, replace(field, covariance=stable), _gap(field))
    rated, kinds = [], []
    for i, m in enumerate(measured):
        look = appearance(m, changes.change, higher[int(changes.signs[m.number])], usual, grids.diff.raster.cell)
        likely = ground_probability(look, classified="class" in method)
        kind = kind_of(look, likely)
        kinds.append(kind)
        score = score_of(m, float(others.excess[m.number]), float(others.share[m.number]), likely)
        if score >= min_score:
            rated.append((score, i, kind))
    rated.sort(key=lambda r: (-r[0], -abs(measured[r[1]].net), r[1]))
    hulls = []
    for rank, (score, i, kind) in enumerate(rated, start=1):
        m = measured[i]
        row, col = m.box[0].start, m.box[1].start
        beside = (changes.labels[m.box] > 0) & ~m.inside
        room = (changes.labels[m.box] == 0) & np.isfinite(grids.diff.change[m.box])
        sign = int(changes.signs[m.number])
        polygon = outline(
            m.own.drawn, m.own.height, sign, row, col, grids.diff.raster, m.flank, room, m.own.portion, beside
        )
        cut, fill = max(-m.net, 0.0), max(m.net, 0.0)
        net = fill - cut
        hulls.append(
            Hull(
                id=str(rank), score=score, kind=kind, area=polygon.area,
                cut_volume=cut, fill_volume=fill, net_volume=net,
                cut_volume_ci95=around_zero(-net, m.half_width), fill_volume_ci95=around_zero(net, m.half_width),
                net_volume_ci95=around(net, m.half_width), mean_change=net / polygon.area,
                max_change=m.max_change, coverage=m.coverage, centroid=centre_of(polygon), polygon=polygon,
            )
        )  # fmt: skip
    return tuple(hulls), [i for _, i, _ in rated], kinds


def around_zero(value: float, half: float) -> tuple[float, float]:
    """Return the interval of a volume that cannot be negative.

    >>> around_zero(3.0, 1.0), around_zero(-3.0, 1.0), around_zero(-3.0, 4.0)
    ((2.0, 4.0), (0.0, 0.0), (0.0, 1.0))
    """
    return max(value - half, 0.0), max(value + half, 0.0)


def _renumbered(labels: Labels, order: list[int]) -> Labels:
    """Give each cell the rank of its hull, 0 where it was left out."""
    numbers = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.int32)
    for rank, i in enumerate(order, start=1):
        numbers[i + 1] = rank
    return np.asarray(numbers[labels], dtype=np.int32)
