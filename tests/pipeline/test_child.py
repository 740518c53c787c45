"""A run as a process: its protocol, its exit status, and that it never outlives whoever asked for it."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline import child, guard
from pipeline.errors import InputInvalid, OutOfMemory, StorageFull

PATIENCE_S = 30.0


def write_spec(folder: Path, **params: Any) -> Path:
    (folder / "file.bin").write_bytes(b"12345")
    spec = {
        "pipeline": "constant",
        "inputs": {"file": str(folder / "file.bin")},
        "outdir": str(folder / "out"),
        "params": params,
    }
    (path := folder / "spec.json").write_text(json.dumps(spec))
    return path


def run(spec: Path, **options: Any) -> tuple[int, list[dict[str, Any]], str]:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", str(spec)], capture_output=True, timeout=PATIENCE_S, **options
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def wait_until_gone(session: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while guard.members(session):
        assert time.monotonic() < deadline, "processes are left"
        time.sleep(0.02)


def test_a_run_tells_its_progress_and_leaves_its_outcome_beside_the_spec(tmp_path: Path) -> None:
    status, events, _ = run(write_spec(tmp_path, seconds=0.3))
    fractions = [event["fraction"] for event in events if event["event"] == "progress"]
    assert status == 0
    assert events[-1] == {"event": "done", "outcome": "outcome.json", "artifacts": ["results.json"]}
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    assert outcome["document"]["bytes"] == 5
    assert outcome["document"] == json.loads((tmp_path / "out/results.json").read_text())
    assert [artifact["media_type"] for artifact in outcome["artifacts"]] == ["application/json"]


def test_what_native_code_prints_never_reaches_the_protocol(tmp_path: Path) -> None:
    status, events, complaints = run(write_spec(tmp_path, fail="noise"))
    assert status == 0
    assert events[-1]["event"] == "done"
    assert complaints.count("native noise\n") == 10_000


def test_a_refused_input_ends_with_status_2_and_no_trace(tmp_path: Path) -> None:
    status, events, complaints = run(write_spec(tmp_path, fail="error"))
    assert status == 2
    assert events[-1]["event"] == "error"
    assert (events[-1]["code"], events[-1]["label"]) == ("INPUT_INVALID", "file")
    assert complaints == ""
    assert not (tmp_path / "outcome.json").exists()


def test_a_defect_ends_with_status_1_and_a_trace_that_stays_off_the_protocol(tmp_path: Path) -> None:
    status, events, complaints = run(write_spec(tmp_path, fail="defect"))
    assert status == 1
    assert events[-1]["code"] == "INTERNAL"
    assert "ZeroDivisionError" in complaints
    assert "Traceback" not in json.dumps(events)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "INTERNAL"),
        ('{"pipeline": "constant"}', "INTERNAL"),
        ('{"pipeline": "constant", "inputs": {}, "outdir": "OUT", "params": {"seconds": -1}}', "INTERNAL"),
        ('{"pipeline": "nothing", "inputs": {}, "outdir": "OUT"}', "INTERNAL"),
        ('{"pipeline": "constant", "inputs": {}, "outdir": "OUT"}', "INPUT_INVALID"),
    ],
)
def test_a_spec_that_makes_no_sense_is_an_error_event(tmp_path: Path, text: str, said: str) -> None:
    (spec := tmp_path / "spec.json").write_text(text.replace("OUT", str(tmp_path / "out")))
    status, events, _ = run(spec)
    assert status == (2 if said == "INPUT_INVALID" else 1)
    assert events[-1]["code"] == said


def test_a_file_that_grows_beyond_what_is_allowed_is_a_storage_error(tmp_path: Path) -> None:
    import resource

    limit = 2**20
    status, events, _ = run(
        write_spec(tmp_path, fail="disk"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert status == 2
    assert events[-1]["code"] == "STORAGE"


def test_an_interrupt_ends_a_run_quietly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "run", str(write_spec(tmp_path, seconds=60))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert complaints == b""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_a_storage_error_however_deep_it_hides(number: int, tmp_path: Path) -> None:
    cause = OSError(number, os.strerror(number))
    error = RuntimeError("could not write the picture")
    error.__cause__ = cause
    assert isinstance(child.translate(error, tmp_path), StorageFull)


def test_a_refusal_stays_what_it_is_and_lack_of_memory_has_its_code(tmp_path: Path) -> None:
    refusal = InputInvalid("bad", label="pre", remedy="Mend it.")
    assert child.translate(refusal, tmp_path) is refusal
    assert isinstance(child.translate(MemoryError(), tmp_path), OutOfMemory)


def test_a_panic_of_native_code_is_a_defect(tmp_path: Path) -> None:
    class PanicException(BaseException):
        """As extensions in Rust raise them."""

    assert child.translate(PanicException("index out of bounds"), tmp_path).code == "INTERNAL"


class Supervised:
    """A supervised run of its own session, started by a process that the test can kill."""

    def __init__(self, spec: Path) -> None:
        code = (
            "import subprocess, sys, time\n"
            "run = subprocess.Popen([sys.executable, '-m', 'pipeline', 'run', sys.argv[1], '--supervised'],"
            " stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)\n"
            "print(run.pid, flush=True)\n"
            "for line in run.stdout: print(line.decode(), end='', flush=True)\n"
            "time.sleep(600)\n"
        )
        self.supervisor = subprocess.Popen([sys.executable, "-c", code, str(spec)], stdout=subprocess.PIPE, text=True)
        assert self.supervisor.stdout is not None
        self.session = int(self.supervisor.stdout.readline())
        while '"fraction": 0.5' not in self.supervisor.stdout.readline():
            pass

    def close(self) -> None:
        self.supervisor.kill()
        self.supervisor.wait()
        assert self.supervisor.stdout is not None
        self.supervisor.stdout.close()


@pytest.mark.service
@pytest.mark.parametrize("fail", ["hang", "spawn"])
def test_nothing_of_a_run_outlives_a_supervisor_that_is_killed(fail: str, tmp_path: Path) -> None:
    supervised = Supervised(write_spec(tmp_path, fail=fail))
    try:
        assert len(guard.members(supervised.session)) >= 2  # the run and its guardian
        supervised.supervisor.kill()
        wait_until_gone(supervised.session)
    finally:
        supervised.close()
    assert guard.members(supervised.session) == []


@pytest.mark.service
def test_what_a_killed_run_had_started_is_ended_by_its_guardian(tmp_path: Path) -> None:
    supervised = Supervised(write_spec(tmp_path, fail="spawn"))
    try:
        assert len(guard.members(supervised.session)) == 3  # the run, its guardian, the program
        os.kill(supervised.session, signal.SIGKILL)
        wait_until_gone(supervised.session)
    finally:
        supervised.close()
    assert guard.members(supervised.session) == []


def test_only_the_leader_of_a_session_can_be_guarded(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", str(write_spec(tmp_path)), "--supervised"],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    assert b"leader of a session" in done.stderr
