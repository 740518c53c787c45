"""What a report says of an analysis, in words: the same for the page and for the print."""

from collections.abc import Mapping
from typing import Any

from pipeline.volume_change.output import words
from pipeline.volume_change.output.document import crs_name
from pipeline.volume_change.types import Analysis, Hull, Totals

KINDS = {
    "ground": "the ground itself moved",
    "vegetation": "looks like vegetation rather than ground",
    "object": "looks like an object, such as a vehicle",
    "unknown": "what it is could not be told",
}
_BUDGET = 10 * 2**20  # bytes of pictures in one report; as text in a page they take a third more


def within_budget(previews: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the first pictures, as many as keep a report small enough to mail; at least one."""
    kept: dict[str, bytes] = {}
    spent = 0
    for name, content in previews.items():
        spent += len(content)
        if spent > _BUDGET and kept:
            break
        kept[name] = content
    return kept


def of_hull(number: int, hull: Hull) -> dict[str, Any]:
    """Say what a change is; ``number`` is its place in the list, from 1."""
    return {
        "number": number,
        "id": hull.id,
        "sure": words.certainty(hull.score),
        "kind": hull.kind,
        "kind_words": KINDS[hull.kind],
        "area": words.area(hull.area),
        "max": words.metres(hull.max_change, signed=True),
        "mean": words.metres(hull.mean_change, signed=True),
        "coverage": f"{100 * hull.coverage:.0f} %",
        **_volumes(hull),
    }


def of_totals(totals: Totals) -> dict[str, Any]:
    """Say a sum."""
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


def of_analysis(analysis: Analysis, document: Mapping[str, Any]) -> dict[str, Any]:
    """Say what holds for all of it; ``document`` is the result document of the same run."""
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
