"""The report: one page that opens offline, prints well, and explains its own numbers."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.volume_change.output import words
from pipeline.volume_change.output.document import all_warnings, crs_name
from pipeline.volume_change.types import Analysis, Hull, Totals

_BUDGET = 10 * 2**20  # bytes of pictures; as text they take a third more
_KINDS = {
    "ground": "the ground itself moved",
    "vegetation": "looks like vegetation rather than ground",
    "object": "looks like an object, such as a vehicle",
    "unknown": "what it is could not be told",
}


def report_html(analysis: Analysis, document: Mapping[str, Any], previews: Mapping[str, bytes]) -> bytes:
    """Return the report as one self-contained HTML file.

    Args:
        analysis: The finished analysis.
        document: The result document of the same run.
        previews: JPEG pictures by their path below the result folder; what exceeds about 10 MiB is left out.
    """
    page = _environment().get_template("report.html.j2").render(
        doc=document,
        hulls=[_hull(n, hull) for n, hull in enumerate(analysis.hulls, 1)],
        totals=_totals(analysis.totals),
        site=_totals(analysis.site),
        facts=_facts(analysis, document),
        warnings=all_warnings(analysis),
        pictures=_within_budget(previews),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )  # fmt: skip
    return page.encode()


def _environment() -> Environment:
    # file names and messages come from strangers, so everything is escaped
    return Environment(
        loader=PackageLoader("pipeline.volume_change.output"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _within_budget(previews: Mapping[str, bytes]) -> dict[str, Markup]:
    kept: dict[str, Markup] = {}
    spent = 0
    for name, content in previews.items():
        spent += len(content)
        if spent > _BUDGET and kept:
            break
        kept[name] = Markup("data:image/jpeg;base64," + base64.b64encode(content).decode())  # noqa: S704  # our own bytes
    return kept


def _hull(number: int, hull: Hull) -> dict[str, Any]:
    return {
        "number": number,
        "id": hull.id,
        "sure": words.certainty(hull.score),
        "kind": hull.kind,
        "kind_words": _KINDS[hull.kind],
        "area": words.area(hull.area),
        "max": words.metres(hull.max_change, signed=True),
        "mean": words.metres(hull.mean_change, signed=True),
        "coverage": f"{100 * hull.coverage:.0f} %",
        **_volumes(hull),
    }


def _totals(totals: Totals) -> dict[str, Any]:
    return {"area": words.area(totals.area), **_volumes(totals)}


def _volumes(owner: Hull | Totals) -> dict[str, str]:
    found = {}
    for name in ("cut", "fill", "net"):
        value, interval = getattr(owner, f"{name}_volume"), getattr(owner, f"{name}_volume_ci95")
        # a narrow column may break before "±" and "to", never inside a figure
        whole = words.volume(value, interval, signed=name == "net")
        found[name] = whole.replace(" m³", "\N{NO-BREAK SPACE}m³").replace("± ", "±\N{NO-BREAK SPACE}")
        found[f"{name}_range"] = words.between(interval, signed=name == "net").replace("to ", "to\N{NO-BREAK SPACE}")
    return found


def _facts(analysis: Analysis, document: Mapping[str, Any]) -> dict[str, Any]:
    errors, found, surveys = analysis.errors, analysis.registration, document["surveys"]
    moved = document["registration"]
    return {
        "bias": words.metres(errors.bias, signed=True),
        "sigma": words.metres(errors.sigma),
        "lod": words.metres(errors.lod95),
        "range": _reach(errors.correlation_length),
        "stable_points": words.number(errors.points),
        "stable_area": words.area(errors.area),
        "cell": f"{words.significant(analysis.difference.raster.cell)} m",
        "crs": crs_name(analysis.surveys.pre.crs),
        "unit": analysis.surveys.unit,
        "surveys": [
            {"role": role, "name": surveys[key]["name"] or "unnamed", "points": words.number(surveys[key]["points"]),
             "density": words.significant(surveys[key]["density"])}
            for role, key in (("Reference (before)", "pre"), ("Later (after)", "post"))
        ],
        "shift": [words.metres(v, signed=True) for v in moved["translation"]],
        "rotation": f"{moved['rotation_deg']:.4f}°",
        "overlap": "unknown" if moved["overlap"] is None else f"{100 * moved['overlap']:.0f} %",
        "rmse": "unknown" if moved["rmse"] is None else words.metres(moved["rmse"]),
        "dof": ", ".join(found.dof) or "none",
    }  # fmt: skip


def _reach(length: float) -> str:
    return f"{words.significant(length)} m" if length > 0 else "no distance: they are independent"
