"""The printed report: what changed, by how much, how sure that is, and how it was found out."""

from collections.abc import Mapping, Sequence
from typing import Any

from pyproj import CRS
from pyproj.exceptions import CRSError

from pipeline.volume_change.output import facts, words
from pipeline.volume_change.output.document import all_warnings, crs_name
from pipeline.volume_change.output.printed.paper import CUT, FILL, LINE, MUTED, Paper
from pipeline.volume_change.types import Analysis, Hull, Totals

_VOLUMES = ("#", "area, m²", "cut, m³", "95 % interval", "fill, m³", "95 % interval", "net, m³", "95 % interval")
_PLACES = ("#", "kind", "sure", "east, m", "north, m", "largest, m", "mean, m", "seen")
_MOST = 300  # changes in a table: more would fill a folder, and nobody reads them
_READING = """
Cut is material that was removed, fill is material that arrived; net is fill minus cut: negative means that material \
was lost.
“± x” is half the width of the 95 % interval: the true volume lies inside of the interval 95 times in 100. An interval \
that contains zero means that the sign of the net volume is not certain.
“97 % sure” means: of the changes scored like this one, 97 in 100 are real changes of the ground.
Totals add up the changes listed. The whole site adds up every cell that both surveys saw: movements too small to be \
outlined are in it, and so is more noise.
The intervals speak of the surveys, not of the world: they know nothing of stable ground that moved after all, of \
water, or of snow.
"""


def report_pdf(
    analysis: Analysis, document: Mapping[str, Any], previews: Mapping[str, bytes], overview: bytes
) -> bytes:
    """Return the report as a PDF of A4 pages.

    The same analysis gives the same bytes: no time of day, no timing and no memory is in it.

    Args:
        analysis: The finished analysis.
        document: The result document of the same run.
        previews: JPEG pictures by their path below the result folder; what exceeds about 10 MiB is left out.
        overview: The overview as JPEG, as sharp as paper asks for.
    """
    said = facts.of_analysis(analysis, document)
    before, after = (survey["name"] for survey in said["surveys"])
    paper = Paper(f"Volume change: {before} → {after}", _maker(document))
    _front(paper, analysis, document, said)
    paper.add_page()
    paper.start_section("Overview")
    top = paper.get_y()
    alt = f"Plan of the site with {len(analysis.hulls)} outlined changes"
    paper.picture(overview, paper.l_margin, top, paper.epw, paper.h - paper.b_margin - top, alt)
    paper.add_page()
    _changes(paper, analysis, said)
    _trust(paper, document, said)
    _made(paper, document, said)
    _each(paper, analysis, document, facts.within_budget(previews))
    return paper.content()


def _maker(document: Mapping[str, Any]) -> str:
    version = document["versions"].get("volcal-server")
    return f"Volcal {version}" if version else "Volcal"


def _front(paper: Paper, analysis: Analysis, document: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    """Write what a client reads first, and perhaps alone."""
    totals, site = facts.of_totals(analysis.totals), facts.of_totals(analysis.site)
    paper.write_text("VOLUME CHANGE REPORT", 8.5, MUTED, gap=1)
    if analysis.hulls:
        paper.write_text(f"Net {totals['net']}", 24, bold=True, gap=1)
        count = len(analysis.hulls)
        paper.write_text(
            f"{count} change{'s' if count > 1 else ''} of the ground on {totals['area']}. Net is fill minus cut; “±” "
            "is half the width of the 95 % interval: the true figure lies inside of it 95 times in 100.",
            gap=4,
        )
    else:
        paper.write_text(f"No change found above {said['lod']}", 20, bold=True, gap=1)
        paper.write_text(
            f"No connected piece of ground moved by more than the surveys can tell apart ({said['lod']} in one cell of "
            f"{said['cell']}). Smaller movements may exist; the whole site reads {site['net']}.",
            gap=4,
        )
    paper.cards(
        [
            ("Cut (removed)", totals["cut"], f"{totals['cut_range']} m³", CUT),
            ("Fill (added)", totals["fill"], f"{totals['fill_range']} m³", FILL),
            ("Net of the changes", totals["net"], f"{totals['net_range']} m³", LINE),
            ("Net of the whole site", site["net"], f"{site['net_range']} m³", LINE),
        ]
    )
    surveys = [
        (survey["role"], f"{survey['name']}: {survey['points']} points, {survey['density']} per m²")
        for survey in said["surveys"]
    ]
    paper.pairs(
        [
            *surveys,
            ("Coordinate system", _crs(analysis.surveys.pre.crs)),
            ("Units", _units(said["unit"])),
            ("Grid", f"cells of {said['cell']}; detection limit of one cell {said['lod']} (95 %)"),
            ("Stable ground", f"{said['stable_area']}, {said['stable_points']} points of both surveys"),
            ("Area compared", f"{site['area']} of ground that both surveys saw"),
            ("Registration", document["registration"]["method"]),
        ]
    )
    if notices := all_warnings(analysis):
        paper.box("Please note", [f"{notice.message} ({notice.code})" for notice in notices])
    paper.blanks(["Prepared by", "Date", "Signature"])


def _changes(paper: Paper, analysis: Analysis, said: Mapping[str, Any]) -> None:
    paper.heading("Changes")
    if not analysis.hulls:
        paper.write_text(f"No change was found above the detection limit of {said['lod']}.")
        return
    listed = analysis.hulls[:_MOST]
    left = len(analysis.hulls) - len(listed)
    more = f" {left} more that are less sure are in results.json and hulls.gpkg; “all” counts them." if left else ""
    paper.write_text(f"Surest first. Volumes in m³ with their 95 % intervals.{more}", 8, MUTED)
    rows = [[str(n), *_volume_cells(hull)] for n, hull in enumerate(listed, 1)]
    paper.columns(_VOLUMES, [*rows, ["all", *_volume_cells(analysis.totals)]], (9, 14, 17, 26, 17, 26, 17, 28), 1, True)
    paper.heading("Where and what")
    system = crs_name(analysis.surveys.pre.crs)
    if system is None:
        place = "Coordinates are those of the reference survey, which names no coordinate system."
    else:
        place = f"Coordinates of each change's centre are in {system if len(system) < 40 else _crs(system)}."
    paper.write_text(
        f"{place} “Largest” and “mean” are changes of height; “seen” is the share of the change that both surveys saw. "
        f"{_kinds(listed)}",
        8,
        MUTED,
    )
    east, north = (float(v) for v in analysis.surveys.origin[:2])
    places = [
        [
            str(number),
            hull.kind,
            words.certainty(hull.score).removesuffix(" sure"),
            words.number(hull.centroid[0] + east, 1),
            words.number(hull.centroid[1] + north, 1),
            words.metres(hull.max_change, signed=True).removesuffix(" m"),
            words.metres(hull.mean_change, signed=True).removesuffix(" m"),
            f"{100 * hull.coverage:.0f} %",
        ]
        for number, hull in enumerate(listed, 1)
    ]
    paper.columns(_PLACES, places, (9, 24, 20, 26, 28, 20, 20, 16), 2, False)


def _kinds(hulls: Sequence[Hull]) -> str:
    met = [kind for kind in facts.KINDS if any(hull.kind == kind for hull in hulls)]
    return "; ".join(f"“{kind}”: {facts.KINDS[kind]}" for kind in met) + "."


def _volume_cells(owner: Hull | Totals) -> list[str]:
    cells = [words.area(owner.area).removesuffix(" m²")]
    for name in ("cut", "fill", "net"):
        value, interval = getattr(owner, f"{name}_volume"), getattr(owner, f"{name}_volume_ci95")
        signed = name == "net"
        cells.append(words.volume(value, interval, signed=signed).partition(" m³")[0])
        cells.append("" if value == 0 == interval[0] == interval[1] else words.between(interval, signed=signed))
    return cells


def _trust(paper: Paper, document: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    paper.heading("How far to trust this: the stable ground", 60)
    paper.write_text(
        f"On {said['stable_area']} of ground that was marked as unmoved ({said['stable_points']} points of both "
        "surveys), every height change is error. That is where the intervals come from."
    )
    paper.pairs(
        [
            ("Systematic difference, as delivered", f"{said['bias']}; removed before volumes were taken"),
            ("Scatter of one cell after that", f"{said['sigma']} (robust standard deviation, NMAD)"),
            ("Detection limit of one cell", f"{said['lod']}: a smaller change cannot be told from error (95 %)"),
            ("Errors are related up to", f"{said['range']}; what neighbouring errors share does not average out"),
        ],
        share=0.37,
    )  # fmt: skip
    found = document["registration"]
    paper.heading("How the surveys were laid on top of each other", 50)
    paper.pairs(
        [
            ("Method", found["method"] + ("" if found["converged"] else " (did not settle)")),
            ("Later survey moved by (east, north, up)", f"{', '.join(said['shift'])} at the centre of the site"),
            ("and turned by", said["rotation"]),
            ("Degrees of freedom that the data could show", said["dof"]),
            ("Remaining spread", said["rmse"]),
            ("Overlap, of the smaller survey", said["overlap"]),
        ],
        share=0.37,
    )  # fmt: skip


def _made(paper: Paper, document: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    paper.heading("How to read the numbers", 50)
    for line in _READING.strip().splitlines():
        paper.write_text(f"• {line}", 8.5, gap=1)
    paper.heading("How this was made", 50)
    paper.write_text(
        "Ground points of both surveys were selected, the later survey was laid onto the earlier one by what did not "
        f"change, both were binned into cells of {said['cell']}, and connected cells that moved by more than their "
        "errors were outlined. Volumes are sums of height change over each outline; their intervals carry point noise, "
        "roughness, errors that are alike over distance, as measured on the stable ground, and where the edge lies.",
        8.5,
    )
    options = "; ".join(f"{name}: {_option(value)}" for name, value in document["parameters"].items())
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    paper.pairs([("Parameters", options or "none"), ("Versions", versions)], share=0.16, size=8)


def _option(value: object) -> str:
    if value is None:
        return "chosen from the data"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _each(paper: Paper, analysis: Analysis, document: Mapping[str, Any], pictures: Mapping[str, bytes]) -> None:
    """Show the changes' own pictures, two on a page."""
    shown = [
        (number, hull["image"])
        for number, hull in enumerate(document["hulls"], 1)
        if hull["image"] in pictures and hull["image"] != "overview.png"
    ]
    gap = 6.0
    width = (paper.epw - gap) / 2
    for place, (number, name) in enumerate(shown):
        if place % 2 == 0:
            paper.add_page()
            paper.start_section(_span(shown[place : place + 2]))
        top = paper.t_margin
        left = paper.l_margin + place % 2 * (width + gap)
        said = facts.of_hull(number, analysis.hulls[number - 1])
        alt = f"Change {number}: net {said['net']}, {said['sure']}; plan, ground before and after, and a section"
        paper.picture(pictures[name], left, top, width, paper.h - paper.b_margin - top, alt)


def _span(shown: Sequence[tuple[int, str]]) -> str:
    return f"Change {shown[0][0]}" if len(shown) == 1 else f"Changes {shown[0][0]} and {shown[1][0]}"


def _crs(crs: str | None) -> str:
    """Return a coordinate system's number and name."""
    if not crs:
        return "none named in the files; coordinates are the files' own"
    try:
        found = CRS.from_user_input(crs)
    except CRSError:
        return crs[:120]
    code = found.to_epsg()
    return f"EPSG:{code}, {found.name}" if code else found.name


def _units(unit: str) -> str:
    plain = "lengths in metres, areas in m², volumes in m³"
    return plain if unit in ("metre", "meter", "m") else f"{plain}; the files' own unit, {unit}, was converted"
