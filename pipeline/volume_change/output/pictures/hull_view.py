"""One change close up: plan, section through its largest height change, and the ground before and after."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image

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
from pipeline.volume_change.output.pictures.scene import Scene, change_limit, scene_of
from pipeline.volume_change.output.pictures.section import Section, Window, section_of
from pipeline.volume_change.types import Analysis, Array, Hull

_WIDE = WIDTH - 2 * MARGIN
_TITLE, _LARGE, _BODY, _SMALL = 66.0, 40.0, 36.0, 30.0
_PLAN_TOP, _RELIEF_HEIGHT, _SECTION_HEIGHT = 370.0, 460, 400
_ROOM = 1.6  # width of the plan over that of the hull
_MOST_RELIEF_CELLS = 700
_LEAST_COMMON = 0.1  # of the ground shown, seen by both surveys


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts are, px from the top, and what they show."""

    window: Window
    plan: float  # height of the plan

    @property
    def relief_top(self) -> float:
        """Upper edge of the views before and after."""
        return _PLAN_TOP + self.plan + 116

    @property
    def section_top(self) -> float:
        """Upper edge of the profile."""
        return self.relief_top + _RELIEF_HEIGHT + 142

    @property
    def height(self) -> int:
        """Of the whole picture."""
        return round(self.section_top + _SECTION_HEIGHT + 172)


def layout_of(hull: Hull, cell: float) -> Layout:
    """Return a plan that is upright for an upright hull and flat for a flat one, with ground around it."""
    left, bottom, right, top = hull.polygon.bounds
    width, height = max(right - left, 1e-9), max(top - bottom, 1e-9)
    plan = float(np.clip(_WIDE * height / width, 0.62 * _WIDE, 1.1 * _WIDE))
    half = max(0.5 * max(width, height * _WIDE / plan) * _ROOM, 10 * cell)
    x, y, tall = (left + right) / 2, (bottom + top) / 2, half * plan / _WIDE
    return Layout((x - half, y - tall, x + half, y + tall), round(plan))


def hull_picture(analysis: Analysis, number: int) -> Image.Image:
    """Draw one hull.

    Args:
        analysis: The finished analysis.
        number: Position of the hull, 1 = first.

    Returns:
        An upright picture, 1440 px wide.
    """
    hull = analysis.hulls[number - 1]
    layout = layout_of(hull, analysis.difference.raster.cell)
    scene = scene_of(analysis, layout.window)
    line = section_of(analysis, number, layout.window)
    sheet = Sheet(layout.height)
    _header(sheet, number, hull)
    _plan(sheet, analysis, scene, number, line, layout)
    _reliefs(sheet, analysis, number, layout.relief_top)
    _section(sheet, analysis, line, layout.section_top)
    return sheet.image()


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


def _plan(sheet: Sheet, analysis: Analysis, scene: Scene, number: int, line: Section, layout: Layout) -> None:
    axes = sheet.axes(MARGIN, _PLAN_TOP, _WIDE, layout.plan)
    frame = frame_on(axes, layout.window, (_WIDE, layout.plan))
    limit = change_limit(analysis)
    draw_ground(frame, scene, limit, analysis.errors.lod95)
    shown = np.unique(scene.labels)
    for other in shown[shown > 0][::-1]:
        draw_polygons(frame, analysis.hulls[other - 1].polygon, color=INK, width=5 if other == number else 2)
    draw_furniture(frame, scene)
    _section_line(frame, line)
    top = _PLAN_TOP + layout.plan + 8
    sheet.text(MARGIN, top, "From above", _SMALL, weight="bold")
    scale = f"colours: {words.metres(-limit, signed=True)} (cut) to {words.metres(limit, signed=True)} (fill)"
    sheet.text(WIDTH - MARGIN, top, scale, _SMALL, color=MUTED, ha="right")


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


def _reliefs(sheet: Sheet, analysis: Analysis, number: int, top: float) -> None:
    left, bottom, right, high = analysis.hulls[number - 1].polygon.bounds
    room = max(0.2 * max(right - left, high - bottom), 5 * analysis.difference.raster.cell)
    scene = scene_of(analysis, (left - room, bottom - room, right + room, high + room), _MOST_RELIEF_CELLS)
    before, after, colour, outline = _blocks(scene, number, change_limit(analysis))
    camera = camera_for(before, after, scene.cell)
    width = (_WIDE - 32) // 2
    for n, (name, height) in enumerate((("Before", before), ("After", after))):
        start = MARGIN + n * (width + 32)
        # drawn larger than shown, so that edges come out smooth
        view = relief(height, colour, outline, scene.cell, camera, (3 * width // 2, 3 * _RELIEF_HEIGHT // 2))
        sheet.paste(start, top, width, _RELIEF_HEIGHT, view)
        sheet.text(start, top - 34, name, _BODY, weight="bold")
    sheet.text(MARGIN, top + _RELIEF_HEIGHT + 12, _seen(camera), _SMALL, color=MUTED)


def _blocks(scene: Scene, number: int, limit: float) -> tuple[Array, Array, NDArray[np.float32], NDArray[np.bool_]]:
    """Return heights before and after, colour and outline, cut to what both surveys saw."""
    before, after = small_gaps_closed(scene.before), small_gaps_closed(scene.after)
    both = np.isfinite(before) & np.isfinite(after)
    cut = np.s_[:, :]
    if both.mean() > _LEAST_COMMON:  # what one survey alone saw would look like a change
        before, after = np.where(both, before, np.nan), np.where(both, after, np.nan)
        rows, cols = np.flatnonzero(both.any(axis=1)), np.flatnonzero(both.any(axis=0))
        cut = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    change = small_gaps_closed(scene.change)
    colour = np.full((*before.shape, 3), 0.80, np.float32)
    inside = (scene.labels > 0) & np.isfinite(change)
    colour[inside] = colours(change[inside], limit)
    return before[cut], after[cut], colour[cut], (scene.labels == number)[cut]


def _seen(camera: Camera) -> str:
    heights = "heights to scale" if camera.exaggeration == 1 else f"heights × {camera.exaggeration:g}"
    return f"Seen from the {camera.seen_from}, {heights}; coloured where the ground changed"


def _section(sheet: Sheet, analysis: Analysis, line: Section, top: float) -> None:
    axes = sheet.axes(MARGIN + 110, top, _WIDE - 120, _SECTION_HEIGHT)
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
    sheet.text(MARGIN, top - 58, "Section A – B", _BODY, weight="bold")
    sheet.text(WIDTH - MARGIN, top - 52, f"elevation, m  ·  {heights}", _SMALL, color=MUTED, ha="right")
    _section_key(sheet, lod, top + _SECTION_HEIGHT + 68)


def _scale_section(axes: Axes, line: Section, before: Array, after: Array) -> None:
    heights = np.concatenate([before, after])
    heights = heights[np.isfinite(heights)]
    low, high = (float(heights.min()), float(heights.max())) if heights.size else (0.0, 1.0)
    room = max(0.12 * (high - low), 0.005 * float(line.along[-1]), 1e-3)
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


def _section_key(sheet: Sheet, lod: float, top: float) -> None:
    middle = top + 58
    left = float(MARGIN)
    entries: list[tuple[str, str]] = [("before", MUTED), ("after", INK), (f"± {words.metres(lod)} detection limit", "")]
    for name, tone in entries:
        if tone:
            sheet.line((left, left + 64), middle, tone, 6, (0, (4, 1.5)) if tone == MUTED else "-")
        else:
            sheet.block(left, middle - 14, 64, 28, "#dcdfe2")
        sheet.text(left + 78, middle, name, _SMALL, va="center_baseline")
        left += 110 + 19 * len(name)
    sheet.text(MARGIN + _WIDE, top + 18, "distance from A, m", _SMALL, ha="right", va="center_baseline", color=MUTED)
