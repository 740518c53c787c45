"""How much material moved in each change and on the site, and how sure is each figure?"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt, find_objects
from scipy.special import stdtrit

from pipeline.volume_change.delineation.changes import Changes
from pipeline.volume_change.delineation.growth import Field, Labels
from pipeline.volume_change.delineation.rim import OUTSIDE, Rim, depth_of, faces, find_rim
from pipeline.volume_change.delineation.seams import Own, Seams, own_part
from pipeline.volume_change.types import EIGHT, Array, Interval, Mask, Totals
from pipeline.volume_change.uncertainty.covariance import cross

BEYOND = 2.3  # cells outside the outline where a change that was cut short would still show
ANNULI = ((1.5, 6.0), (6.0, 15.0))  # cells from the hull: ground that shows the error around it
FEWEST_AROUND = 12  # cells of an annulus
NEIGHBOUR = 3.0  # cells from another change: its foot
RIM = 0.5  # sd of what lies beyond the outline, in volumes that the profile of its rim lets expect there
DECAY = (0.1, 0.8)  # heights of the outermost ring over the next; a profile falls neither faster nor slower
GAP = 0.3  # relative error of a volume that had to be interpolated
TWO_SIDED = 1.959964

Box = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Measured:
    """One change, measured.

    Args:
        number: Its label.
        box: Rows and columns that hold it and the ground around it.
        weights: Weight of each cell's change in the volume, shape of ``box``: 1 inside, negative around.
        inside: Its cells, shape of ``box``.
        net: Volume, m³, positive = fill; the error seen around it is taken off.
        white: Standard deviation of ``net`` from point noise and from how much of its cells was seen, m³.
        correlated: The same from correlated errors, m³.
        rim: Volume that may lie beyond its cells, m³, ≥ 0.
        gap: Interpolated volume, m³, ≥ 0.
        half_width: Half the 95 % interval of ``net``, m³.
        coverage: Share of the cells that were measured rather than interpolated.
        max_change: The cell that changed most in the hull's direction, m.
        flank: How it ends.
        border: The part of ``white`` that comes from cells at the survey's border, m³.
        seam: The part of ``white`` that comes from cells that cut and fill share, m³.
        own: What of the cells in ``box`` is its own.
    """

    number: int
    box: Box
    weights: Array
    inside: Mask
    net: float
    white: float
    correlated: float
    rim: float
    gap: float
    half_width: float
    coverage: float
    max_change: float
    own: Own
    flank: Rim = Rim()  # noqa: RUF009  (frozen)
    border: float = 0.0
    seam: float = 0.0

    @property
    def sigma(self) -> float:
        """Standard deviation of the volume from measurement errors, m³."""
        return float(np.hypot(self.white, self.correlated))


def measure(changes: Changes, field: Field, seams: Seams | None = None) -> tuple[Measured, ...]:
    """Measure each change, in the order of the labels.

    Args:
        changes: What was found.
        field: The measurements.
        seams: What of the cells that cut and fill share is whose.
    """
    return tuple(
        _measure(k, (box[0], box[1]), changes, field, seams or {})
        for k, box in enumerate(find_objects(changes.labels), start=1)
        if box is not None
    )


def _measure(number: int, core: Box, changes: Changes, field: Field, seams: Seams) -> Measured:
    """Sum one change, take off what the ground around says, and propagate the errors."""
    reach = int(np.ceil(ANNULI[-1][1])) + 1
    shape = changes.labels.shape
    rows, cols = (slice(max(s.start - reach, 0), min(s.stop + reach, n)) for s, n in zip(core, shape, strict=True))
    box = rows, cols
    inside = changes.labels[box] == number
    known = inside & field.usable[box]
    change = np.where(known | inside, changes.change[box], np.where(field.usable[box], field.change[box], 0.0))
    share, share_variance = (grid[box] for grid in field.shares)
    if not known[inside].all():
        # Holes in a hull count whole, and so does their border.
        edge = inside & binary_dilation(inside & ~known, EIGHT)
        share, share_variance = np.where(edge, 1.0, share), np.where(edge, 0.0, share_variance)
    weights = inside * share - _error_around(inside, inside * share, changes.labels[box], box, field)
    area = field.cell**2
    own = own_part(number, int(changes.signs[number]), inside, change, box, seams)
    shared = np.isfinite(own.portion)
    variance = field.covariance.white * np.where(field.usable[box], field.variance[box], 0.0)
    white = area * float(np.sqrt((np.where(known | ~inside, weights, 0.0) ** 2 * variance)[~shared].sum()))
    correlated = area * float(np.sqrt(max(cross([weights], field.covariance, field.cell)[0, 0], 0.0)))
    border = area * float(np.sqrt((share_variance[inside] * change[inside] ** 2).sum()))
    sign = float(changes.signs[number])
    seam = area * float(np.sqrt(own.variance.sum()))
    white = _length([white, border, seam])
    flank, foot = _flank(inside, sign * change, changes.labels[box], box, field)
    if flank.shape == "edge":
        rim = area * min(_beyond(inside, sign * change), _seen_beyond(inside, changes.labels[box], box, field))
    else:
        rim = area * float((share * foot).sum())
    gap = area * float(np.abs(change[inside & ~known]).sum())
    # What lies at the foot is the change's, and no error of the ground around.
    net = area * float((weights * (change - sign * foot)).sum() + sign * (share * foot).sum())
    net += area * float((share * (own.height - np.where(inside, change, 0.0)))[shared].sum())
    return Measured(
        number, box, weights, inside, net, white, correlated, rim, gap,
        half_width(white, correlated, rim, gap, field.covariance.freedom()),
        float(known.sum() / inside.sum()), sign * float((sign * change[inside]).max()), own, flank, border,
        seam,
    )  # fmt: skip


def _flank(inside: Mask, height: Array, labels: Labels, box: Box, field: Field) -> tuple[Rim, Array]:
    """Return how a change ends, and the height, m, of its foot on the cells around that are not the hull's."""
    depth = depth_of(inside)
    free = field.usable[box] & (labels == 0)
    own = inside & field.usable[box]
    if (others := (labels > 0) & ~inside).any():
        free &= distance_transform_edt(~others) > NEIGHBOUR
        own &= ~faces(inside, others)
    white = field.covariance.white * np.where(field.usable[box], field.variance[box], 0.0)
    seen = free | own
    flank = find_rim(depth, height, white, seen, sill=float(field.covariance.smoothed(0.0)), cell=field.cell)
    return flank, np.where(free & (depth > -OUTSIDE), flank.heights(depth), 0.0)


def _beyond(inside: Mask, height: Array) -> float:
    """Return the volume that may lie beyond the outline, in cell heights: the rim's profile goes on geometrically.

    After rings of mean height m₁ (next to outermost) and m₀ come m₀q, m₀q² …, with q = m₀ / m₁.
    """
    within = binary_erosion(inside, EIGHT)
    rim, following = inside & ~within, within & ~binary_erosion(within, EIGHT)
    outermost = max(float(height[rim].mean()), 0.0)
    ratio = DECAY[1]
    if following.any():
        ratio = outermost / max(float(height[following].mean()), 1e-9)
    ratio = min(max(ratio, DECAY[0]), DECAY[1])
    return outermost * ratio / (1 - ratio) * float(rim.sum())


def _seen_beyond(inside: Mask, labels: Labels, box: Box, field: Field) -> float:
    """Return how much volume just outside the outline its measured heights leave room for, in cell heights."""
    outside = distance_transform_edt(~inside)
    ring = (outside > 0) & (outside <= BEYOND) & (labels == 0) & field.usable[box]
    heights = np.where(ring, field.change[box], 0.0)
    white = field.covariance.white * float(field.variance[box][ring].sum())
    correlated = float(ring.sum()) * np.sqrt(field.covariance.smoothed(0.0))
    return abs(float(heights.sum())) + float(np.hypot(np.sqrt(white), correlated))


def half_width(white: float, correlated: float, rim: float, gap: float, freedom: float) -> float:
    """Return half the 95 % interval of a volume, m³.

    The correlated part is known only from ``freedom`` independent patches, so Student's t widens it.
    """
    widened = correlated * float(stdtrit(max(freedom, 2.0), 0.975)) / TWO_SIDED
    return TWO_SIDED * float(np.sqrt(white**2 + widened**2 + (RIM * rim) ** 2 + (GAP * gap) ** 2))


def _error_around(inside: Mask, weights: Array, labels: Labels, box: Box, field: Field) -> Array:
    """Return the weights with which the unchanged ground around predicts the error inside (simple kriging).

    The predictors are the means over rings around the hull: their covariance with the hull's sum over
    their own, λ = S⁻¹ c, is small where errors are white and near 1 where they reach across.
    """
    none = np.zeros(inside.shape)
    if not field.covariance.sills.any():
        return none
    distance = distance_transform_edt(~inside)
    free = (labels == 0) & field.usable[box]
    if labels[labels > 0].size > inside.sum():
        # The foot of a neighbouring change is not ground.
        free &= distance_transform_edt((labels == 0) | inside) > ANNULI[0][0]
    around = [free & (distance > low) & (distance <= high) for low, high in ANNULI]
    means = [ring / ring.sum() for ring in around if ring.sum() >= FEWEST_AROUND]
    if not means:
        return none
    both = cross([weights, *means], field.covariance, field.cell)
    own = both[1:, 1:].copy()
    variance = field.covariance.white * np.where(field.usable[box], field.variance[box], 0.0)
    own[np.diag_indices(len(means))] += [float((m**2 * variance).sum()) for m in means]
    factors = np.linalg.lstsq(own, both[1:, 0], rcond=1e-10)[0]
    return np.asarray(sum((f * m for f, m in zip(factors, means, strict=True)), none))


def totals(measured: tuple[Measured, ...], changes: Changes, field: Field, area: float) -> Totals:
    """Sum the hulls, with what their errors have in common.

    Args:
        measured: The hulls to sum.
        changes: All changes.
        field: The measurements.
        area: Of the hulls, m².
    """
    fills = [m for m in measured if m.net >= 0]
    cuts = [m for m in measured if m.net < 0]
    fill, fill_half = _sum(fills, changes, field)
    cut, cut_half = _sum(cuts, changes, field)
    _, net_half = _sum(list(measured), changes, field)
    return build_totals(abs(cut), fill, cut_half, fill_half, net_half, area)


def _sum(measured: list[Measured], changes: Changes, field: Field) -> tuple[float, float]:
    """Return the sum of volumes and half its interval, m³."""
    if not measured:
        return 0.0, 0.0
    weights = np.zeros(changes.labels.shape)
    for m in measured:
        weights[m.box] += m.weights
    measuring = np.where(field.usable, weights, 0.0)
    area = field.cell**2
    variance = np.where(field.usable, field.variance, 0.0)
    white = area * float(np.sqrt(field.covariance.white * (measuring**2 * variance).sum()))
    correlated = area * float(np.sqrt(max(cross([weights], field.covariance, field.cell)[0, 0], 0.0)))
    white = _length([white, *(m.border for m in measured), *(m.seam for m in measured)])
    rim, gap = _length([m.rim for m in measured]), _length([m.gap for m in measured])
    return sum(m.net for m in measured), half_width(white, correlated, rim, gap, field.covariance.freedom())


def site_totals(
    measured: tuple[Measured, ...], changes: Changes, field: Field, change: Array, centred_on: Mask | None
) -> Totals:
    """Sum every cell that both surveys saw, and the narrow gaps between them.

    Cut and fill go by the sign of the hull, and by the sign of the whole remainder outside of hulls: cell by
    cell, mere noise would count as both.

    Args:
        measured: The hulls.
        changes: All changes.
        field: The measurements.
        change: Height change, m, shape (rows, cols); NaN outside of the site.
        centred_on: Stable cells whose offset the registration removed; None if it removed none.
    """
    signs = np.where(np.isfinite(change), changes.signs[changes.labels], 0)
    site = np.isfinite(change)
    outside = site & (signs == 0)
    rest = 1 if float(change[outside].sum()) >= 0 else -1
    signs[outside] = rest
    beyond = {sign: _length([m.rim for m in measured if changes.signs[m.number] == sign]) for sign in (1, -1)}
    fill, fill_half = _area_sum(change, signs > 0, field, centred_on, beyond[1])
    cut, cut_half = _area_sum(change, signs < 0, field, centred_on, beyond[-1])
    _, net_half = _area_sum(change, site, field, centred_on, 0.0)
    area = float(field.shares[0][site].sum()) * field.cell**2
    return build_totals(max(-cut, 0.0), max(fill, 0.0), cut_half, fill_half, net_half, area)


def _area_sum(change: Array, cells: Mask, field: Field, centred_on: Mask | None, beyond: float) -> tuple[float, float]:
    """Return the volume over the cells and half its interval, m³."""
    if not cells.any():
        return 0.0, 0.0
    area = field.cell**2
    # An offset that was removed is accounted for below; one that was left in is an error of every cell alike.
    own = field.covariance if centred_on is None else replace(field.covariance, offset=0.0)
    known = np.isfinite(field.variance)
    share, share_variance = field.shares
    weights = np.where(cells, share, 0.0)
    total = area * float((weights[cells] * change[cells]).sum())
    white = own.white * float((weights**2 * np.where(known, field.variance, 0.0)).sum())
    white += float((share_variance[cells] * change[cells] ** 2).sum())
    if centred_on is not None:
        # Σ (d − typical d of the stable ground): an error that the stable ground shares cancels, but the
        # median that was taken off has π/2 times the variance of a mean.
        each = float(weights.sum()) / max(float(centred_on.sum()), 1.0)
        on_stable = own.white * float(field.variance[centred_on].sum())
        common = own.white * float((weights * field.variance)[centred_on & cells].sum())
        white += np.pi / 2 * each**2 * on_stable - 2 * each * common
        weights = weights - each * centred_on
    correlated = float(cross([weights], own, field.cell)[0, 0])
    gap = area * float(np.abs(change[cells & ~known]).sum())
    half = half_width(area * max(white, 0.0) ** 0.5, area * max(correlated, 0.0) ** 0.5, beyond, gap, own.freedom())
    return total, half


def _length(values: list[float]) -> float:
    return float(np.sqrt(sum(v * v for v in values)))


def build_totals(cut: float, fill: float, cut_half: float, fill_half: float, net_half: float, area: float) -> Totals:
    """Return totals with net = fill − cut exactly, and intervals of cut and fill that stay ≥ 0.

    >>> build_totals(1.0, 3.0, 2.0, 1.0, 2.5, 10.0).cut_volume_ci95
    (0.0, 3.0)
    """
    net = fill - cut
    return Totals(
        cut, fill, net, around(cut, cut_half, floor=0.0), around(fill, fill_half, floor=0.0), around(net, net_half),
        area,
    )  # fmt: skip


def around(value: float, half: float, floor: float = -np.inf) -> Interval:
    """Return value ± half, no lower than ``floor``."""
    return max(value - half, floor), value + half
