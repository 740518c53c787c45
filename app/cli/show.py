"""How a result looks on a terminal: the table of hulls, the totals, the warnings."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_MOST_ROWS = 30


def hull_table(document: Mapping[str, Any]) -> Table:
    """Return the hulls of a result document as a table, the totals in its last row.

    Args:
        document: A result document of the schema ``volcal/volume_change/1``.
    """
    hulls, totals = document["hulls"], document["totals"]
    table = Table(show_footer=True, header_style="bold", title=_title(hulls), title_justify="left", expand=False)
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    table.add_column("hull", footer="total", no_wrap=True)
    table.add_column("score", footer="", **right)
    table.add_column("area m²", footer=quantity(totals["area"]), **right)
    table.add_column("cut m³", footer=quantity(totals["cut_volume"]), **right)
    table.add_column("fill m³", footer=quantity(totals["fill_volume"]), **right)
    table.add_column("net m³", footer=_net(totals), **right)
    table.add_column("kind", footer="", no_wrap=True)
    for hull in hulls[:_MOST_ROWS]:
        table.add_row(
            Text(str(hull["id"])),
            f"{hull['score']:.2f}",
            quantity(hull["area"]),
            quantity(hull["cut_volume"]),
            quantity(hull["fill_volume"]),
            _net(hull),
            Text(str(hull["kind"])),
            style="dim" if hull["score"] < 0.5 else "",
        )
    return table


def print_summary(document: Mapping[str, Any], console: Console) -> None:
    """Print warnings, the table of hulls and one sentence that says the net change.

    Args:
        document: A result document of the schema ``volcal/volume_change/1``.
        console: Where to print.
    """
    for warning in document.get("warnings", ()):
        console.print(Text(f"warning[{warning['code']}]: {warning['message']}", style="yellow"))
    hulls, totals = document["hulls"], document["totals"]
    if not hulls:
        console.print("No change of the ground was found.")
        console.print(f"Net {_net(totals)} m³, with 95 % confidence.")
        return
    console.print(hull_table(document))
    if len(hulls) > _MOST_ROWS:
        console.print(f"… and {len(hulls) - _MOST_ROWS} more hulls; all are in results.json.")
    low, high = totals["net_volume_ci95"]
    console.print(f"Net {_signed(totals['net_volume'])} m³; 95 % interval {_signed(low)} to {_signed(high)} m³.")


def quantity(value: float) -> str:
    """Return an area or volume with as many digits as mean something.

    >>> quantity(12345.6), quantity(312.44), quantity(1.234), quantity(0.0)
    ('12,346', '312', '1.23', '0')
    """
    size = abs(value)
    if size == 0:
        return "0"
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value:,.{digits}f}"


def _signed(value: float) -> str:
    text = quantity(value)
    return text if value <= 0 else f"+{text}"


def _net(row: Mapping[str, Any]) -> str:
    """Return net with half the width of its interval, which need not be symmetric."""
    low, high = row["net_volume_ci95"]
    return f"{_signed(row['net_volume'])} ± {quantity((high - low) / 2)}"


def _title(hulls: list[Any]) -> str:
    return f"{len(hulls)} change hull{'' if len(hulls) == 1 else 's'}, most certain first"
