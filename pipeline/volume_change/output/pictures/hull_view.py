"""One change close up: plan, section through its largest height change, and the ground before and after."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image
from scipy.ndimage import map_coordinates

from pipeline.volume_change.output import words
from pipeline.volume_change.output.pictures.canvas import (
    CUT,
    FILL,
    INK,
    MARGIN,
    MUTED,
    PALE,
    PAPER,
    WIDTH,
    Sheet,
    colours,
    fitted,
    points,
)
from pipeline.volume_change.output.pictures.plan_view import (
    Frame,
    draw_furniture,
    draw_ground,
    draw_polygons,
    frame_on,
)
from pipeline.volume_change.output.pictures.relief_view import (
    Camera,
    camera_for,
    relief,
    small_gaps_closed,
)
from pipeline.volume_change.output.pictures.scene import Scene, change_limit, painted, scene_of
from pipeline.volume_change.types import Analysis, Array, Hull

_WIDE = WIDTH - 2 * MARGIN
_TITLE, _LARGE, _BODY, _SMALL = 66.0, 40.0, 36.0, 30.0
_PLAN_TOP, _PLAN_HEIGHT = 370, 860
_RELIEF_TOP, _RELIEF_HEIGHT = 1340, 460
_SECTION_TOP, _SECTION_HEIGHT = 1950, 400
_HEIGHT = 2520
_MOST_RELIEF_CELLS = 700


@dataclass(frozen=True, slots=True)
class Section:
    """A profile over the ground.

    Args:
        ends: Local x, y of A and B, m, shape (2, 2).
        along: Distance from A, m, shape (n,).
        before: Elevation of the reference, local m; NaN where unseen.
        after: The same later.
    """

    ends: Array
    along: Array
    before: Array
    after: Array


def hull_picture(analysis: Analysis, number: int) -> Image.Image:
    """Draw one hull.

    Args:
        analysis: The finished analysis.
        number: Position of the hull, 1 = first.

    Returns:
        An upright picture, 1440 px wide.
    """
    hull = analysis.hulls[number - 1]
    window = _window(hull, analysis.difference.raster.cell)
    scene = scene_of(analysis, window)
    line = section_of(analysis, number)
    sheet = Sheet(_HEIGHT)
    _header(sheet, number, hull)
    _plan(sheet, analysis, scene, number, line)
    _reliefs(sheet, analysis, scene, number)
    _section(sheet, analysis, line)
    return sheet.image()


def section_of(analysis: Analysis, number: int) -> Section:
    """Return the profile through a hull's largest height change, across the hull or down the slope.

    A long hull is cut across its length, as one draws cross-sections of a bank or a road; another one down
    the slope, as one draws a slide; on level ground, from west to east.
    """
    difference, hull = analysis.difference, analysis.hulls[number - 1]
    raster = difference.raster
    rows, cols = np.nonzero((analysis.labels == number) & np.isfinite(difference.change))
    if not len(rows):
        spot, direction = np.array(hull.centroid), np.array([1.0, 0.0])
    else:
        at = int(np.abs(difference.change[rows, cols]).argmax())
        xy = np.column_stack([raster.x0 + (cols + 0.5) * raster.cell, raster.y0 + (rows + 0.5) * raster.cell])
        spot = xy[at]
        direction = _direction(xy, difference.after[rows, cols])
    first, last = _reaches(spot, direction, _window(hull, raster.cell))
    along = np.linspace(first, last, int(np.clip(2 * (last - first) / raster.cell, 60, 900)))
    xy = spot + along[:, None] * direction
    place = (xy[:, 1] - raster.y0) / raster.cell - 0.5, (xy[:, 0] - raster.x0) / raster.cell - 0.5
    before, after = (_profile(grid, place) for grid in (difference.before, difference.after))
    return Section(xy[[0, -1]], along - first, before, after)


def _direction(xy: Array, heights: Array) -> Array:
    """Unit vector from A to B, pointing east where it can."""
    centred = xy - xy.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(centred.T) if len(xy) > 2 else np.eye(2))
    seen = np.isfinite(heights)
    slope = np.zeros(2)
    if seen.sum() > 5:
        slope = np.linalg.lstsq(np.column_stack([centred[seen], np.ones(seen.sum())]), heights[seen], rcond=None)[0][:2]
    if values[1] > 5 * max(values[0], 1e-12):
        direction = vectors[:, 0]
    elif np.hypot(*slope) > 0.05:
        direction = slope / np.hypot(*slope)
    else:
        direction = np.array([1.0, 0.0])
    return direction if direction[0] >= 0 else -direction


def _reaches(spot: Array, direction: Array, window: tuple[float, float, float, float]) -> tuple[float, float]:
    """Return how far a line through ``spot`` runs each way before it comes near the window's edge, m."""
    low, high = np.array(window[:2]), np.array(window[2:])
    inset = 0.07 * (high - low).min()
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.concatenate([(low + inset - spot) / direction, (high - inset - spot) / direction])
    ends = ends[np.isfinite(ends)]
    before, after = ends[ends < 0], ends[ends > 0]
    return float(before.max(initial=-np.inf)), float(after.min(initial=np.inf))


def _profile(grid: Array, place: tuple[Array, Array]) -> Array:
    closed = small_gaps_closed(grid)
    return map_coordinates(closed, place, order=1, mode="constant", cval=np.nan)


def _window(hull: Hull, cell: float) -> tuple[float, float, float, float]:
    left, bottom, right, top = hull.polygon.bounds
    half = max(0.5 * max((right - left), (top - bottom) * _WIDE / _PLAN_HEIGHT) * 1.7, 12 * cell)
    x, y = (left + right) / 2, (bottom + top) / 2
    tall = half * _PLAN_HEIGHT / _WIDE
    return x - half, y - tall, x + half, y + tall


def _header(sheet: Sheet, number: int, hull: Hull) -> None:
    title = f"Change {number}: {words.volume(hull.net_volume, hull.net_volume_ci95, signed=True)}"
    sheet.text(MARGIN, 36, title, fitted(title, _TITLE, _WIDE, "bold"), weight="bold")
    kind = "" if hull.kind == "unknown" else f"  ·  {hull.kind}"
    line = f"{words.certainty(hull.score)} that it is real{kind}  ·  ± is the 95 % interval"
    sheet.text(MARGIN, 118, line, fitted(line, _BODY, _WIDE), color=MUTED)
    facts = [
        ("cut (removed)", words.volume(hull.cut_volume, hull.cut_volume_ci95), CUT),
        ("fill (added)", words.volume(hull.fill_volume, hull.fill_volume_ci95), FILL),
        ("area", words.area(hull.area), INK),
        ("largest change", words.metres(hull.max_change, signed=True), INK),
        ("mean change", words.metres(hull.mean_change, signed=True), INK),
        ("seen by both", f"{100 * hull.coverage:.0f} %", INK),
    ]
    for n, (name, value, tone) in enumerate(facts):
        left, top = MARGIN + (n % 3) * _WIDE / 3, 180 + (n // 3) * 92
        sheet.block(left, top, 10, 76, tone if n < 2 else PALE)
        sheet.text(left + 26, top - 2, name, _SMALL, color=MUTED)
        size = fitted(value, _LARGE, _WIDE / 3 - 44, "bold")
        sheet.text(left + 26, top + 36, value, size, weight="bold", color=tone)


def _plan(sheet: Sheet, analysis: Analysis, scene: Scene, number: int, line: Section) -> None:
    axes = sheet.axes(MARGIN, _PLAN_TOP, _WIDE, _PLAN_HEIGHT)
    window = _window(analysis.hulls[number - 1], analysis.difference.raster.cell)
    frame = frame_on(axes, window, (_WIDE, _PLAN_HEIGHT))
    limit = change_limit(analysis)
    draw_ground(frame, painted(scene, limit, analysis.errors.lod95), scene)
    for other in range(len(analysis.hulls), 0, -1):
        if np.any(scene.labels == other):
            draw_polygons(frame, analysis.hulls[other - 1].polygon, color=INK, width=5 if other == number else 2)
    draw_furniture(frame, scene)
    _section_line(frame, line)
    sheet.text(MARGIN, _PLAN_TOP + _PLAN_HEIGHT + 8, "From above", _SMALL, weight="bold")
    scale = f"colours: {words.metres(-limit, signed=True)} (cut) to {words.metres(limit, signed=True)} (fill)"
    sheet.text(WIDTH - MARGIN, _PLAN_TOP + _PLAN_HEIGHT + 8, scale, _SMALL, color=MUTED, ha="right")


def _section_line(frame: Frame, line: Section) -> None:
    axes = frame.axes
    limits = axes.get_xlim(), axes.get_ylim()
    for width, tone in ((7, PAPER), (3, INK)):
        axes.plot(*line.ends.T, color=tone, linewidth=points(width), linestyle=(0, (5, 2)), zorder=6)
    for (x, y), name in zip(line.ends, "AB", strict=True):
        axes.text(
            x, y, name, fontsize=points(34), weight="bold", ha="center",
            va="center", color=PAPER, zorder=7,
            bbox={"boxstyle": "circle,pad=0.25", "facecolor": INK, "edgecolor": PAPER},
        )  # fmt: skip
    axes.set(xlim=limits[0], ylim=limits[1])


def _reliefs(sheet: Sheet, analysis: Analysis, scene: Scene, number: int) -> None:
    step = max(1, -(-max(scene.change.shape) // _MOST_RELIEF_CELLS))
    before, after = (small_gaps_closed(grid[::step, ::step]) for grid in (scene.before, scene.after))
    labels, change = scene.labels[::step, ::step], small_gaps_closed(scene.change)[::step, ::step]
    cell = scene.cell * step
    camera = camera_for(before, after, cell)
    colour = np.full((*before.shape, 3), 0.80, np.float32)
    inside = (labels > 0) & np.isfinite(change)
    colour[inside] = colours(change[inside], change_limit(analysis))
    outline = labels == number
    width = (_WIDE - 32) // 2
    for n, (name, height) in enumerate((("Before", before), ("After", after))):
        left = MARGIN + n * (width + 32)
        axes = sheet.axes(left, _RELIEF_TOP, width, _RELIEF_HEIGHT)
        # drawn larger than shown, so that edges come out smooth
        view = relief(height, colour, outline, cell, camera, (3 * width // 2, 3 * _RELIEF_HEIGHT // 2))
        axes.imshow(view, aspect="auto", interpolation="antialiased")
        axes.axis("off")
        sheet.text(left, _RELIEF_TOP - 34, name, _BODY, weight="bold")
    sheet.text(MARGIN, _RELIEF_TOP + _RELIEF_HEIGHT + 12, _seen(camera), _SMALL, color=MUTED)


def _seen(camera: Camera) -> str:
    heights = "heights to scale" if camera.exaggeration == 1 else f"heights × {camera.exaggeration:g}"
    return f"Seen from the {camera.seen_from}, {heights}; coloured where the ground changed"


def _section(sheet: Sheet, analysis: Analysis, line: Section) -> None:
    axes = sheet.axes(MARGIN + 110, _SECTION_TOP, _WIDE - 120, _SECTION_HEIGHT)
    up = float(analysis.surveys.origin[2])
    before, after, lod = line.before + up, line.after + up, analysis.errors.lod95
    axes.fill_between(line.along, before - lod, before + lod, color="#9aa4ae", alpha=0.35, linewidth=0)
    both = np.isfinite(before) & np.isfinite(after)
    for tone, where in ((CUT, both & (after < before)), (FILL, both & (after > before))):
        axes.fill_between(line.along, before, after, where=where, color=tone, alpha=0.45, linewidth=0, interpolate=True)
    axes.plot(line.along, before, color=MUTED, linewidth=points(5), linestyle=(0, (4, 1.5)))
    axes.plot(line.along, after, color=INK, linewidth=points(6))
    _scale_section(axes, line, before, after)
    exaggeration = _exaggeration(axes)
    heights = f"heights × {words.significant(exaggeration, 2)}"
    sheet.text(MARGIN, _SECTION_TOP - 58, "Section A – B", _BODY, weight="bold")
    sheet.text(WIDTH - MARGIN, _SECTION_TOP - 52, f"elevation, m  ·  {heights}", _SMALL, color=MUTED, ha="right")
    _section_key(sheet, lod)


def _scale_section(axes: Axes, line: Section, before: Array, after: Array) -> None:
    heights = np.concatenate([before, after])
    heights = heights[np.isfinite(heights)]
    low, high = (float(heights.min()), float(heights.max())) if heights.size else (0.0, 1.0)
    room = max(0.12 * (high - low), 0.02 * float(line.along[-1]), 1e-3)
    axes.set(xlim=(0, line.along[-1]), ylim=(low - room, high + room))
    axes.tick_params(labelsize=points(_SMALL), color=MUTED, labelcolor=INK, length=5)
    axes.locator_params(axis="y", nbins=5)
    axes.locator_params(axis="x", nbins=7)
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.grid(color="#dde2e7", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for x, name, side in ((0.0, "A", "left"), (1.0, "B", "right")):
        axes.text(x, 0.98, f" {name} ", transform=axes.transAxes, fontsize=points(36), weight="bold", ha=side, va="top")


def _exaggeration(axes: Axes) -> float:
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    return float((_SECTION_HEIGHT / (y1 - y0)) / ((_WIDE - 120) / (x1 - x0)))


def _section_key(sheet: Sheet, lod: float) -> None:
    axes = sheet.axes(MARGIN, _HEIGHT - 104, _WIDE, 80)
    axes.set(xlim=(0, _WIDE), ylim=(0, 80))
    axes.axis("off")
    entries: list[tuple[str, str]] = [("before", MUTED), ("after", INK), (f"± {words.metres(lod)} detection limit", "")]
    left = 0.0
    for name, tone in entries:
        if tone:
            style: object = (0, (4, 1.5)) if tone == MUTED else "-"
            axes.plot([left, left + 64], [22, 22], color=tone, linewidth=points(6), linestyle=style)
        else:
            axes.add_patch(Rectangle((left, 8), 64, 28, facecolor="#9aa4ae", alpha=0.35, linewidth=0))
        axes.text(left + 78, 22, name, fontsize=points(_SMALL), va="center_baseline", color=INK)
        left += 110 + 19 * len(name)
    axes.text(_WIDE, 62, "distance from A, m", fontsize=points(_SMALL), ha="right", va="center_baseline", color=MUTED)

