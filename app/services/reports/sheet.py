"""The changes of a result as a table that spreadsheets open: CSV by RFC 4180."""

import csv
import io
from collections.abc import Mapping
from typing import Any

SCHEMA = "volcal/volume_change/"
_VOLUMES = ("cut_volume", "fill_volume", "net_volume")
_BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_BOM = "\ufeff".encode()


def columns() -> list[str]:
    """Return the names of the columns, each with its unit.

    >>> columns()[5:9]
    ['area_m2', 'cut_volume_m3', 'cut_volume_ci95_low_m3', 'cut_volume_ci95_high_m3']
    """
    volumes = [f"{name}{part}_m3" for name in _VOLUMES for part in ("", "_ci95_low", "_ci95_high")]
    more = ["mean_change_m", "max_change_m", "centroid_x_m", "centroid_y_m", "crs"]
    return ["number", "id", "kind", "score", "coverage", "area_m2", *volumes, *more]


def sheet(document: Mapping[str, Any]) -> bytes:
    """Return a line for each change, surest first, and one for all together, whose ``id`` is ``total``.

    Lines end in CR LF, numbers have a decimal point, the text is UTF-8; a byte order mark, without which Excel takes it
    for something else, is there if anything in it is not ASCII.

    Args:
        document: A result of ``volume_change``.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(columns())
    crs = _words(document.get("crs") or "")
    for number, hull in enumerate(document["hulls"], 1):
        about = [number, _words(hull["id"]), _words(hull["kind"]), hull["score"], hull["coverage"]]
        changes = [hull["mean_change"], hull["max_change"], *hull["centroid"]]
        writer.writerow([*about, *_figures(hull), *changes, crs])
    writer.writerow(["", "total", "", "", "", *_figures(document["totals"]), "", "", "", "", crs])
    text = buffer.getvalue()
    return text.encode() if text.isascii() else _BOM + text.encode()


def _figures(owner: Mapping[str, Any]) -> list[float]:
    volumes = [[owner[name], *owner[f"{name}_ci95"]] for name in _VOLUMES]
    return [owner["area"], *(figure for each in volumes for figure in each)]


def _words(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: coordinate systems come from strangers' files.

    >>> _words("=HYPERLINK(...)"), _words("EPSG:26917")
    ("'=HYPERLINK(...)", 'EPSG:26917')
    """
    return f"'{text}" if text.startswith(_BEGINS_FORMULA) else text
