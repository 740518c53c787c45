"""What a client prefers, and what it is told of that."""

import math

import pytest

from app.api.ogc.prefer import applied, read


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("", math.inf),
        ("respond-sync", math.inf),
        ("respond-async", 0),
        ("Respond-Async; foo=bar, return=minimal", 0),
        ("respond-async, wait=10", 10),
        ('wait="10", wait=99', 10),
        ("wait=soon", math.inf),
        ("wait=-1", math.inf),
        ("wait=" + "9" * 40, math.inf),
        (",;=, handling=lenient", math.inf),
    ],
)
def test_a_header_says_how_long_to_wait(header: str, wait_s: float) -> None:
    assert read(header).wait_s == wait_s


@pytest.mark.parametrize(
    ("header", "is_job", "told"),
    [
        ("respond-async", True, "respond-async"),
        ("respond-async, wait=10", False, "wait=10"),
        ("respond-async, wait=10", True, "respond-async, wait=10"),
        ("wait=600", False, "wait=600"),
        ("wait=600", True, None),
        ("respond-sync", True, None),
        ("respond-sync", False, "respond-sync"),
        ("handling=lenient", False, None),
    ],
)
def test_a_client_is_told_what_was_met_and_no_more(header: str, is_job: bool, told: str | None) -> None:
    said = applied(read(header), is_job=is_job, patience=min(60, read(header).wait_s))
    assert said == ({} if told is None else {"Preference-Applied": told})
