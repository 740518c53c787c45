"""What the machine gives to runs."""

import os
from pathlib import Path

import psutil
import pytest

from worker import machine
from worker.runs.lines import Lines


def test_runs_share_four_fifths_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_mb", lambda: 10_000)
    assert machine.memory_cap_mb(0, runs=1) == 8000
    assert machine.memory_cap_mb(0, runs=4) == 2000
    assert machine.memory_cap_mb(123, runs=4) == 123


def test_a_container_has_no_more_memory_than_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (given := tmp_path / "memory.max").write_text(f"{512 * 2**20}\n")
    (unlimited := tmp_path / "unlimited").write_text("max\n")
    monkeypatch.setattr(machine, "_LIMITS", (str(unlimited), str(tmp_path / "absent"), str(given)))
    assert machine.memory_mb() == 512
    monkeypatch.setattr(machine, "_LIMITS", (str(unlimited),))
    assert machine.memory_mb() == psutil.virtual_memory().total // 2**20


def test_runs_share_the_cores_and_each_has_one_at_least() -> None:
    cores = len(os.sched_getaffinity(0))
    assert machine.threads(runs=1) == cores
    assert machine.threads(runs=1000) == 1


def test_a_folder_that_is_gone_is_not_full(tmp_path: Path) -> None:
    assert not machine.is_full(tmp_path)
    assert not machine.is_full(tmp_path / "gone")


@pytest.mark.parametrize("cuts", [1, 2, 7, 1000])
def test_lines_are_whole_however_they_arrive(cuts: int) -> None:
    heard: list[object] = []
    lines = Lines(heard.append, longest=40)
    stream = (
        b'{"a": 1}\n\n[1]\nnoise \xff\n'
        + b"x" * 100
        + b'\n{"b": 2}\n{"too long": "'
        + b"y" * 50
        + b'"}\n{"c": 3}\n{"d"'
    )
    for start in range(0, len(stream), cuts):
        lines.feed(stream[start : start + cuts])
    assert heard == [{"a": 1}, {"b": 2}, {"c": 3}]
