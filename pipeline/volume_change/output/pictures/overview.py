"""The picture that answers the question: what moved, where, and how sure."""

from dataclasses import dataclass

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from pipeline.volume_change.output import words
from pipeline.volume_change.output.document import all_warnings, crs_name
from pipeline.volume_change.output.pictures.canvas import (
    CHANGE,
    CUT,
    FILL,
    INK,
    MARGIN,
    MUTED,
    PALE,
    STABLE,
    WARN,
    WIDTH,
    Sheet,
    fitted,
    points,
    text_size,
    wrapped,
)
from pipeline.volume_change.output.pictures.labels import Box
from pipeline.volume_change.output.pictures.plan_view import (
    TALLEST,
    aspect,
    draw_furniture,
    draw_ground,
    draw_labels,
    draw_polygons,
    frame_for,
    turn_for,
)
from pipeline.volume_change.output.pictures.scene import Scene, change_limit, scene_of
from pipeline.volume_change.types import Analysis, Notice

MOST_LABELS = 25
_TITLE, _LARGE, _BODY, _SMALL = 76.0, 40.0, 36.0, 30.0
_MAP_WIDTH = WIDTH - 2 * MARGIN


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture, and where its labels are (px on the map, for checks)."""

    image: Image.Image
    labels: tuple[Box, ...]
    map_box: tuple[float, float, float, float]  # left, top, width, height, px


def overview(analysis: Analysis) -> Drawn:
    """Draw the whole site: plan, hulls, totals with their 95 % intervals, scale of colours, warnings.

    Args:
        analysis: The finished analysis.

    Returns:
        A picture 1440 px wide, upright or nearly square.
    """
    scene, angle = scene_of(analysis), turn_for(analysis)
    limit = change_limit(analysis)
    map_height = round(_MAP_WIDTH * float(np.clip(aspect(scene, angle), 0.55, TALLEST)))
    notices = _short(all_warnings(analysis))
    warn_height = 32 + 42 * sum(len(lines) for lines in notices) if notices else 0
    header, legend, footer = 330, 290, 136
    sheet = Sheet(header + map_height + legend + warn_height + footer)
    _header(sheet, analysis)
    axes = sheet.axes(MARGIN, header, _MAP_WIDTH, map_height)
    frame = frame_for(axes, scene, angle, (_MAP_WIDTH, map_height))
    draw_ground(frame, scene, limit, analysis.errors.lod95)
    draw_polygons(frame, analysis.surveys.stable, color=STABLE, width=2, hatch="//", alpha=0.55)
    for hull in reversed(analysis.hulls):
        draw_polygons(frame, hull.polygon, color=INK, width=4)
    taken = draw_furniture(frame, scene)
    size = 34.0 if len(analysis.hulls) <= 12 else 30.0
    boxes = draw_labels(frame, scene, analysis.hulls[:MOST_LABELS], taken, size)
    top = header + map_height
    _colour_bar(sheet, top + 18, limit, analysis.errors.lod95)
    _key(sheet, top + 222, analysis, len(boxes))
    _warnings(sheet, top + legend, warn_height, notices)
    _footer(sheet, sheet.height - footer, analysis, scene)
    return Drawn(sheet.image(), tuple(boxes), (MARGIN, header, _MAP_WIDTH, map_height))


def headline(analysis: Analysis) -> str:
    """Return the result in one line."""
    if not analysis.hulls:
        return f"No change found above {words.metres(analysis.errors.lod95)}"
    totals = analysis.totals
    return f"Net {words.volume(totals.net_volume, totals.net_volume_ci95, signed=True)} (95 %)"


def site_line(analysis: Analysis) -> str:
    """Return what the whole site says, changes too small to be found included."""
    site = analysis.site
    return f"Whole site, every cell: {words.volume(site.net_volume, site.net_volume_ci95, signed=True)}"


def names_line(analysis: Analysis, limit: int = 28) -> str:
    """Return which survey is compared with which."""
    surveys = analysis.surveys
    before = words.survey_name(surveys.pre.name, "reference survey", limit)
    return f"{before}  →  {words.survey_name(surveys.post.name, 'later survey', limit)}"


def _header(sheet: Sheet, analysis: Analysis) -> None:
    title = headline(analysis)
    sheet.text(MARGIN, 40, title, fitted(title, _TITLE, _MAP_WIDTH, "bold"), weight="bold")
    totals = analysis.totals
    entries = [
        (CUT, "cut (removed)", words.volume(totals.cut_volume, totals.cut_volume_ci95)),
        (FILL, "fill (added)", words.volume(totals.fill_volume, totals.fill_volume_ci95)),
    ]
    for number, (tone, name, value) in enumerate(entries):
        left = MARGIN + number * _MAP_WIDTH / 2
        sheet.block(left, 148, 18, 84, tone)
        sheet.text(left + 36, 146, name, _BODY, color=MUTED)
        sheet.text(left + 36, 192, value, fitted(value, _LARGE, _MAP_WIDTH / 2 - 44, "bold"), weight="bold")
    count = len(analysis.hulls)
    found = "" if not count else f"{count} change{'s' if count > 1 else ''}  ·  "
    line = f"{found}{site_line(analysis)}"
    sheet.text(MARGIN, 250, line, fitted(line, _SMALL, _MAP_WIDTH), color=MUTED)
    names = names_line(analysis)
    sheet.text(MARGIN, 288, names, fitted(names, _SMALL, _MAP_WIDTH), color=MUTED)


def _colour_bar(sheet: Sheet, top: float, limit: float, lod: float) -> None:
    axes = sheet.axes(MARGIN, top + 46, _MAP_WIDTH, 40)
    bar = sheet.figure.colorbar(
        ScalarMappable(Normalize(-limit, limit), CHANGE), cax=axes, orientation="horizontal", extend="both",
        extendfrac=0.03,
    )  # fmt: skip
    ticks = np.linspace(-limit, limit, 5)
    bar.set_ticks(ticks.tolist(), labels=[_tick(value, limit) for value in ticks])
    bar.ax.tick_params(labelsize=points(_SMALL), length=6, pad=4, color=INK, labelcolor=INK)
    bar.outline.set_linewidth(0.6)
    sheet.text(MARGIN, top, "cut (removed)", _BODY, color=CUT, weight="bold")
    sheet.text(WIDTH - MARGIN, top, "fill (added)", _BODY, color=FILL, weight="bold", ha="right")
    sheet.text(WIDTH / 2, top, "height change, m", _BODY, ha="center")
    sheet.text(WIDTH / 2, top + 148, f"grey: nothing above the detection limit of {words.metres(lod)} (95 %)", _SMALL,
               color=MUTED, ha="center")  # fmt: skip


def _tick(value: float, limit: float) -> str:
    return words.number(value, 2 if limit < 3 else 1, signed=True) if limit >= 0.1 else f"{value:+.3g}"


def _key(sheet: Sheet, top: float, analysis: Analysis, labelled: int) -> None:
    axes = sheet.axes(MARGIN, top, _MAP_WIDTH, 48)
    axes.set(xlim=(0, _MAP_WIDTH), ylim=(0, 48))
    axes.axis("off")
    axes.add_patch(Rectangle((2, 8), 64, 30, facecolor="none", edgecolor=STABLE, hatch="////", linewidth=1))
    stable = "stable ground"
    axes.text(80, 23, stable, fontsize=points(_SMALL), va="center_baseline", color=INK)
    if not analysis.hulls:
        return
    left = 80 + text_size(stable, _SMALL)[0] + 48
    axes.add_line(Line2D([left, left + 64], [23, 23], color=INK, linewidth=points(5)))
    rest = len(analysis.hulls) - labelled
    order = "change, surest first" + (f" ({labelled} of {len(analysis.hulls)} labelled)" if rest else "")
    axes.text(left + 78, 23, order, fontsize=points(_SMALL), va="center_baseline", color=INK)


def _short(notices: tuple[Notice, ...]) -> list[list[str]]:
    """Break the first three warnings into at most two lines each."""
    shown = [wrapped(f"⚠ {notice.message}", _SMALL, _MAP_WIDTH - 48, 2) for notice in notices[:3]]
    if len(notices) > 3:
        shown.append([f"… and {len(notices) - 3} more: see the report"])
    return shown


def _warnings(sheet: Sheet, top: float, height: float, notices: list[list[str]]) -> None:
    if not notices:
        return
    sheet.block(MARGIN, top, _MAP_WIDTH, height - 10, WARN)
    for number, line in enumerate(line for lines in notices for line in lines):
        sheet.text(MARGIN + 24, top + 14 + 42 * number, line, _SMALL)


def _footer(sheet: Sheet, top: float, analysis: Analysis, scene: Scene) -> None:
    origin = analysis.surveys.origin
    left, right, bottom, high = scene.extent
    crs = crs_name(analysis.surveys.pre.crs)
    system = "no coordinate system in the files" if crs is None else crs if len(crs) < 40 else "own coordinate system"
    names = ("E", "N") if crs else ("x", "y")
    spans = [
        f"{name} {words.number(low + shift)} – {words.number(high_ + shift)}"
        for name, low, high_, shift in ((names[0], left, right, origin[0]), (names[1], bottom, high, origin[1]))
    ]
    sheet.block(MARGIN, top + 12, _MAP_WIDTH, 2, PALE)
    where = f"{system}  ·  {spans[0]}  ·  {spans[1]}"
    sheet.text(MARGIN, top + 28, where, fitted(where, 28, _MAP_WIDTH), color=MUTED)
    cell = analysis.difference.raster.cell
    how = f"Grid {words.significant(cell)} m  ·  registration: {analysis.registration.method}"
    sheet.text(MARGIN, top + 70, how, fitted(how, 28, _MAP_WIDTH), color=MUTED)
