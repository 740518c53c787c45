"""Supervision with real processes: every way a run can end, and that nothing is left of it."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.services.runs import Verdict
from pipeline import guard
from pipeline.child import RunSpec
from tests.worker.conftest import run_pid
from worker import machine
from worker.runs.supervisor import Ending, EndKind, Limits, supervise

pytestmark = pytest.mark.service

PLENTY = Limits(timeout_s=60, memory_mb=2000)


class Observer:
    """A heartbeat that remembers, and changes its verdict once the run is half done."""

    def __init__(self, then: Verdict = Verdict.CONTINUE) -> None:
        self.heard: list[tuple[float, str]] = []
        self.then = then
        self.session = 0

    def __call__(self, fraction: float, stage: str) -> Verdict:
        self.heard.append((fraction, stage))
        self.session = run_pid() or self.session
        return self.then if fraction >= 0.5 else Verdict.CONTINUE


def spec(folder: Path, **params: Any) -> RunSpec:
    (folder / "file.bin").write_bytes(b"12345")
    return RunSpec(pipeline="constant", inputs={"file": folder / "file.bin"}, outdir=folder / "out", params=params)


def end_of(
    folder: Path,
    observer: Observer | None = None,
    *,
    limits: Limits = PLENTY,
    stopping: Any = lambda: False,
    **params: Any,
) -> Ending:
    observer = observer or Observer()
    (work := folder / "work").mkdir()
    ending = supervise(spec(folder, **params), workdir=work, limits=limits, heartbeat=observer, stopping=stopping)
    assert guard.members(observer.session) == []
    return ending


def test_a_run_that_succeeds_brings_its_document_and_its_files(tmp_path: Path) -> None:
    observer = Observer()
    ending = end_of(tmp_path, observer, seconds=0.5)
    assert ending.kind is EndKind.DONE
    assert ending.document["answer"] == 42
    assert [artifact["name"] for artifact in ending.artifacts] == ["results.json"]
    assert any(stage == "working" and 0 < fraction < 1 for fraction, stage in observer.heard)
    assert ending.peak_mb > 1


def test_a_refusal_keeps_its_code_label_and_remedy(tmp_path: Path) -> None:
    ending = end_of(tmp_path, fail="error")
    assert ending.kind is EndKind.FAILED
    assert ending.error["code"] == "INPUT_INVALID"
    assert ending.error["label"] == "file"
    assert ending.error["remedy"]


def test_a_defect_is_internal_and_its_trace_is_kept_for_the_log(tmp_path: Path) -> None:
    ending = end_of(tmp_path, fail="defect")
    assert (ending.kind, ending.error["code"]) == (EndKind.FAILED, "INTERNAL")
    assert "ZeroDivisionError" in ending.log


def test_a_run_that_ends_without_a_word_is_a_defect(tmp_path: Path) -> None:
    ending = end_of(tmp_path, fail="exit")
    assert (ending.kind, ending.error["code"]) == (EndKind.FAILED, "INTERNAL")
    assert ending.error["details"] == {"exit": 7}


def test_noise_on_standard_output_and_megabytes_of_complaints_do_no_harm(tmp_path: Path) -> None:
    assert end_of(tmp_path, fail="noise").kind is EndKind.DONE


def test_memory_beyond_the_cap_ends_the_run(tmp_path: Path) -> None:
    ending = end_of(tmp_path, fail="memory", limits=Limits(timeout_s=60, memory_mb=250))
    assert (ending.kind, ending.error["code"]) == (EndKind.FAILED, "OUT_OF_MEMORY")
    assert ending.error["details"]["limit_mb"] == 250


@pytest.mark.case(27)
def test_time_beyond_the_cap_ends_even_native_code_that_never_lets_go(tmp_path: Path) -> None:
    ending = end_of(tmp_path, fail="hang", limits=Limits(timeout_s=1.5, memory_mb=2000))
    assert (ending.kind, ending.error["code"]) == (EndKind.FAILED, "TIMEOUT")


@pytest.mark.parametrize(("verdict", "kind"), [(Verdict.CANCEL, EndKind.CANCELLED), (Verdict.LOST, EndKind.LOST)])
@pytest.mark.case(26)
def test_cancelling_ends_the_programs_that_the_run_started_too(verdict: Verdict, kind: EndKind, tmp_path: Path) -> None:
    ending = end_of(tmp_path, Observer(verdict), fail="spawn")
    assert ending.kind is kind
    assert [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path / "out") in (p.info["cmdline"] or [])] == []


def test_a_worker_that_stops_ends_its_run(tmp_path: Path) -> None:
    observer = Observer()
    ending = end_of(tmp_path, observer, seconds=60, stopping=lambda: len(observer.heard) > 3)
    assert ending.kind is EndKind.STOPPED


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (signal.SIGKILL, EndKind.VANISHED, None),
        (signal.SIGTERM, EndKind.VANISHED, None),
        (signal.SIGSEGV, EndKind.FAILED, "INTERNAL"),
        (signal.SIGABRT, EndKind.FAILED, "INTERNAL"),
    ],
)
def test_a_killed_run_is_worth_another_attempt_and_a_crash_is_not(
    number: signal.Signals, kind: EndKind, code: str | None, tmp_path: Path
) -> None:
    class Killer(Observer):
        def __call__(self, fraction: float, stage: str) -> Verdict:
            verdict = super().__call__(fraction, stage)
            if stage == "working":
                os.kill(self.session, number)
            return verdict

    ending = end_of(tmp_path, Killer(), seconds=60)
    assert ending.kind is kind
    assert ending.error.get("code") == code


def test_what_the_kernel_kills_for_want_of_memory_is_lack_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = iter([7, 8])  # what the kernel counts before and after
    monkeypatch.setattr(machine, "oom_kills", lambda: next(kills))

    class Killer(Observer):
        def __call__(self, fraction: float, stage: str) -> Verdict:
            verdict = super().__call__(fraction, stage)
            if stage == "working":
                os.kill(self.session, signal.SIGKILL)
            return verdict

    ending = end_of(tmp_path, Killer(), seconds=60)
    assert (ending.kind, ending.error["code"]) == (EndKind.FAILED, "OUT_OF_MEMORY")


def test_a_run_knows_no_secret_and_starts_no_more_threads_than_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLCAL_SECRET_KEY", "hush")
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:hush@db/volcal")
    monkeypatch.setenv("EARTHDATA_PASSWORD", "hush")
    monkeypatch.setenv("https_proxy", "http://user:hush@proxy")  # the gate is the one way out
    monkeypatch.setenv("NO_PROXY", "*")
    seen: dict[str, str] = {}

    class Reader(Observer):
        def __call__(self, fraction: float, stage: str) -> Verdict:
            verdict = super().__call__(fraction, stage)
            if stage == "working" and not seen:
                seen.update(psutil.Process(self.session).environ())
            return verdict

    assert end_of(tmp_path, Reader(), seconds=0.5, limits=Limits(60, 2000, threads=3)).kind is EndKind.DONE
    assert "hush" not in " ".join(seen.values())
    assert not {"https_proxy", "NO_PROXY"} & set(seen)
    (spec,) = tmp_path.rglob("spec.json")
    assert spec.stat().st_mode & 0o777 == 0o600
    assert (seen["OMP_NUM_THREADS"], seen["NUMBA_NUM_THREADS"]) == ("3", "3")
    assert seen["TMPDIR"].startswith(str(tmp_path))
