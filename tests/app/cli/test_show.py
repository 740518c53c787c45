"""What a result looks like on a terminal."""

import io
from typing import Any

import pytest
from rich.console import Console

from app.cli.show import hull_table, print_summary, quantity


def hull(number: int, score: float, cut: float, fill: float, half: float) -> dict[str, Any]:
    net = fill - cut
    return {
        "id": str(number), "score": score, "area": 312.4, "cut_volume": cut, "fill_volume": fill,
        "net_volume": net, "net_volume_ci95": [net - half, net + half], "kind": "ground",
    }  # fmt: skip


def document(hulls: list[dict[str, Any]], warnings: list[dict[str, str]] | None = None) -> dict[str, Any]:
    net = sum(one["net_volume"] for one in hulls)
    totals = {
        "area": 312.4 * len(hulls), "cut_volume": sum(one["cut_volume"] for one in hulls),
        "fill_volume": sum(one["fill_volume"] for one in hulls),
        "net_volume": net, "net_volume_ci95": [net - 10, net + 12],
    }  # fmt: skip
    return {"hulls": hulls, "totals": totals, "warnings": warnings or []}


def printed(told: dict[str, Any], width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_summary(told, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_each_hull_is_a_row_with_its_error_bar() -> None:
    lines = printed(document([hull(1, 0.97, 12.1, 80.4, 7.3), hull(2, 0.4, 500.0, 0.0, 60.0)])).splitlines()
    first = next(line for line in lines if "0.97" in line)
    assert [cell.strip() for cell in first.split("│")[1:-1]] == [
        "1", "0.97", "312", "12.1", "80.4", "+68.3 ± 7.30", "ground",
    ]  # fmt: skip
    total = next(line for line in lines if "total" in line)
    assert [cell.strip() for cell in total.split("│")[1:-1]] == ["total", "", "625", "512", "80.4", "-432 ± 11.0", ""]
    assert lines[-1] == "Net -432 m³; 95 % interval -442 to -420 m³."


def test_no_change_is_an_answer_too() -> None:
    assert "No change of the ground was found." in printed(document([]))


def test_of_many_hulls_the_most_certain_are_shown_and_the_rest_counted() -> None:
    told = document([hull(n, 0.9, 1.0, 0.0, 0.5) for n in range(1, 41)])
    assert hull_table(told).row_count == 30
    assert "and 10 more hulls" in printed(told)


def test_warnings_come_first() -> None:
    told = document([hull(1, 0.97, 12.1, 80.4, 7.3)], [{"code": "FEET", "message": "The input is in [feet]."}])
    assert printed(told).splitlines()[0] == "warning[FEET]: The input is in [feet]."


def test_a_hull_named_like_markup_is_shown_as_it_is() -> None:
    told = document([hull(1, 0.97, 1.0, 0.0, 1.0) | {"id": "[red]x[/red]"}])
    assert "[red]x[/red]" in printed(told)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (0.004, "0.00"),
        (-1.234, "-1.23"),
        (12.34, "12.3"),
        (999.6, "1,000"),
        (1e6, "1,000,000"),
    ],
)
def test_a_quantity_has_as_many_digits_as_mean_something(value: float, text: str) -> None:
    assert quantity(value) == text
