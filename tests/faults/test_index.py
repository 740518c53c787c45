"""Which failure cases are shown by which tests? Each has a row in docs/reliability.md, and the row names its tests."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = range(1, 31)


def marks(path: Path) -> Iterator[int]:
    """Yield the cases that the tests of a file say they show."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.case":
            yield from (ast.literal_eval(number) for number in node.args)


SHOWN = {
    str(path.relative_to(ROOT)): set(marks(path))
    for path in sorted((ROOT / "tests").rglob("test_*.py"))
    if path != Path(__file__)
}


def row(case: int) -> str:
    page = (ROOT / "docs" / "reliability.md").read_text()
    found = re.findall(rf"^\| {case} \|.*$", page, re.M)
    assert len(found) == 1, f"{len(found)} rows of case {case}"
    return str(found[0])


@pytest.mark.parametrize("case", CASES)
def test_every_failure_case_is_promised_and_shown(case: int) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", row(case))
    assert named
    assert [path for path in named if case not in SHOWN.get(path, set())] == []


def test_no_test_claims_a_case_that_does_not_exist() -> None:
    assert {case for shown in SHOWN.values() for case in shown} <= set(CASES)


def test_the_page_is_found_by_who_looks_for_it() -> None:
    assert "reliability.md" in (ROOT / "docs" / "architecture.md").read_text()
