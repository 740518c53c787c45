"""Which points are ground: by the files' own classes, or by a morphological filter."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, grey_closing, maximum_filter, minimum_filter

from pipeline.abreast import both
from pipeline.clouds import Cloud, PointCloud, Points
from pipeline.contracts import Helpers
from pipeline.errors import InputInvalid
from pipeline.geometry import raster_kernels
from pipeline.geometry.extent import grid_over
from pipeline.tiled.cloud import TiledCloud
from pipeline.volume_change.types import Array, Mask, Notice

GROUND_CLASSES = (2, 8)  # ground; model key points, the ground of LAS 1.3 and before
NOISE_CLASSES = (7, 18)
WATER_CLASS = 9

ENOUGH_GROUND = 0.02  # share of class 2 below which a file counts as not classified
FEWEST_GROUND = 50
DENSITY_RATIO = 3.0  # between the surveys' ground shares; beyond it their classes mean different things

CELL_SPACINGS = 3.0  # a cell of the filter, in point spacings: about 9 points
LARGEST_RADIUS = 4.0  # m: wider things are ground
STEEPEST = 1.2  # rise over run beyond which what an opening removes is an object
PIT_SLOPE = 5.0  # a single cell deeper than this per cell is a stray echo from below
TOLERANCE = 0.25  # m above or below the surface
RELAXATIONS = 60
_MOST_CELLS = 64_000_000
_CELLS_PER_POINT = 32
_UNCLASSIFIED = (0, 1)
_NOISE_SAMPLE = 100_000


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
        ASPRS LAS 1.4 R15, table 17, for the classes; the filter is described at ``ground_mask``.
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


@dataclass(frozen=True, slots=True)
class GroundSurface:
    """Where the ground lies, and how far a point may be from it; grids of shape (rows, cols).

    Args:
        height: Elevation at each cell's centre, metres.
        slack: How far a ground point may lie above it, without its noise, metres.
        behind: The highest of the cell and its neighbours, each at its lower corner, metres.
        tilt: Rise of the ground across a cell, metres.
        noise: Height of ground points above the lowest of their cell, metres.
        x0: Lowest x, metres.
        y0: Lowest y, metres.
        cell: Edge of a cell, metres.
    """

    height: Array
    slack: Array
    behind: Array
    tilt: Array
    noise: float
    x0: float
    y0: float
    cell: float

    def tell(self, points: Points) -> NDArray[np.uint8]:
        """Return 1 for ground, 2 for what stands above it and 0 for stray echoes from below, shape (n,)."""
        above, slack = self.heights(points)
        # Twice the slack below: only a stray echo lies under the lowest points, or else the surface is too coarse.
        high = above > slack + 3 * self.noise
        # The brink of a face or a trench shares its cell with the foot; it is level with the cell behind it.
        brink, _ = raster_kernels.heights(points[high], self.behind, self.tilt, self.x0, self.y0, self.cell)
        high[high] = np.abs(brink) > TOLERANCE + 3 * self.noise
        return np.where(high, np.uint8(2), (above >= -2 * slack).astype(np.uint8))

    def heights(self, points: Points) -> tuple[Array, Array]:
        """Return how far each point lies above the surface, and how far it may, metres, shape (n,) each."""
        above, slack = raster_kernels.heights(points, self.height, self.slack, self.x0, self.y0, self.cell)
        return above, slack


def ground_surface(cloud: Cloud, spacing: float) -> GroundSurface:
    """Find the ground by its shape.

    The lowest point of each cell makes a surface. Openings with growing windows take away what is narrower
    than the window and rises from its surroundings by more than ``STEEPEST`` times the window's radius;
    the gap is closed by a soap film. A point near the surface is ground. Faces, stockpiles and benches
    stay, because the height that is allowed grows with the window and is not capped.

    Args:
        cloud: The survey.
        spacing: Its mean point spacing, metres.

    Source:
        Simple morphological filter, Pingel et al. (2013), doi:10.1016/j.isprsjprs.2012.12.002, with one
        opening slope of 1.2 and a radius of 4 m, so that quarry faces remain.
    """
    most_cells = min(_MOST_CELLS, _CELLS_PER_POINT * len(cloud) + 4096)
    x0, y0, cell, rows, cols = grid_over(cloud.outline(), CELL_SPACINGS * spacing, most_cells)
    low = np.full((rows, cols), np.nan)
    for block in cloud.blocks():
        raster_kernels.lowest(block.points, x0, y0, cell, low)
    surface = _nearest(low)
    pits = grey_closing(surface, size=(3, 3)) - surface > max(PIT_SLOPE * cell, 1.0)
    surface = _filled(surface, np.isnan(low) | pits)
    objects = _objects(surface, cell)
    surface = _filled(surface, objects | np.isnan(low) | pits)
    tilt = steepness(surface) * cell
    # The lowest point of a tilted cell lies at its lower corner: half a cell down along both axes.
    height, slack = surface + tilt / 2, tilt / 2 + TOLERANCE
    found = GroundSurface(height, slack, maximum_filter(surface, 3), tilt, 0.0, x0, y0, cell)
    # The lowest of about nine noisy points lies below the mean; q25 tells by how much without being
    # drawn up by vegetation.
    above, _ = found.heights(cloud.sample(_NOISE_SAMPLE))
    return replace(found, noise=min(max(float(np.quantile(above, 0.25)), 0.0), TOLERANCE))


def _objects(surface: Array, cell: float) -> Mask:
    """Cells that stand out of their surroundings, by openings of growing radius."""
    found = np.zeros(surface.shape, dtype=bool)
    last = max(1, round(LARGEST_RADIUS / cell))
    current = surface
    for radius in sorted({min(last, r) for r in (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 26, 32, 40)}):
        size = 2 * radius + 1
        # min then max: scipy's grey_opening would do the same without the separable filters' speed.
        opened = maximum_filter(minimum_filter(current, size, mode="nearest"), size, mode="nearest")
        # by reconstruction: what is wide enough keeps its corners and its rounded brinks
        opened = raster_kernels.regrown(opened, current, radius)
        found |= current - opened > STEEPEST * radius * cell
        current = opened
    return found


def _nearest(surface: Array) -> Array:
    """Fill NaN cells with the nearest known one."""
    gaps = np.isnan(surface)
    if not gaps.any():
        return surface
    rows, cols = distance_transform_edt(gaps, return_distances=False, return_indices=True)
    return np.asarray(surface[rows, cols])


def _filled(surface: Array, unknown: Mask) -> Array:
    """Close the unknown cells by a soap film over the others; nothing to go by leaves them as they are."""
    if unknown.all() or not unknown.any():
        return surface
    film = _nearest(np.where(unknown, np.nan, surface))
    raster_kernels.relax(film, unknown, RELAXATIONS)
    return film


def steepness(surface: Array) -> Array:
    """Return the rise per cell along x plus along y: the larger one-sided difference on each axis, 0 where unknown."""
    total = np.zeros_like(surface)
    for axis in (0, 1):
        step = np.nan_to_num(np.abs(np.diff(surface, axis=axis)))
        before = np.pad(step, [(1, 0) if a == axis else (0, 0) for a in (0, 1)])
        after = np.pad(step, [(0, 1) if a == axis else (0, 0) for a in (0, 1)])
        total += np.maximum(before, after)
    return total


def _split_both(pre: Cloud, post: Cloud, helpers: Helpers | None) -> tuple[tuple[Cloud, Cloud], tuple[Cloud, Cloud]]:
    """Split both surveys by their shape, with the help of others where they lie in tiles."""
    tiled = [cloud for cloud in (pre, post) if isinstance(cloud, TiledCloud) and cloud.part is None]
    if helpers is None or len(tiled) < 2:
        return both(_split_by_shape, (pre,), (post,))
    from pipeline.volume_change.parts.ground import split_together

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
