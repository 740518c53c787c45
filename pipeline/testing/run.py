"""The constant pipeline: always the same answer, and every way to misbehave that supervision must survive."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from pipeline.contracts import Artifact, Outcome, Run
from pipeline.errors import InputInvalid
from pipeline.testing import ConstantParams, EchoParams, RelayParams

STEP_S = 0.05
BLOCK = 16 * 2**20  # bytes


def run(run: Run, params: ConstantParams) -> Outcome:
    """Take ``params.seconds``, then answer with the size of the file, or misbehave as asked.

    Raises:
        InputInvalid: If asked to fail so, or if there is no file.
    """
    _work(run, params.seconds)
    if params.fail:
        MISBEHAVIOURS[params.fail](run)
    document = {"schema": "volcal/constant/1", "answer": 42, "bytes": _size(run), "seed": run.seed}
    (run.outdir / "results.json").write_text(json.dumps(document))
    return Outcome(document, (Artifact("results.json", "application/json", "Result document"),))


def echo(run: Run, params: EchoParams) -> Outcome:
    """Answer with the words that were given."""
    _work(run, params.pause)
    document = {"schema": "volcal/echo/1", "message": params.message}
    (run.outdir / "results.json").write_text(json.dumps(document))
    return Outcome(document, (Artifact("results.json", "application/json", "Result document"),))


def count(run: Run, params: RelayParams) -> Outcome:
    """Hand on the file's size in a file of its own: the first step of the relay."""
    _misbehave(run, params, step=0)
    (run.outdir / "size.txt").write_text(str(_size(run)))
    return Outcome({"seed": run.seed}, (Artifact("size.txt", "text/plain", "Size"),))


def answer(run: Run, params: RelayParams) -> Outcome:
    """Answer with what the first step handed on: the second step of the relay."""
    _misbehave(run, params, step=1)
    if run.before is None:
        raise InputInvalid("There is nothing from the step before.", remedy="Run that first.")
    document = {"schema": "volcal/relay/1", "bytes": int((run.before / "size.txt").read_text()), **run.facts}
    (run.outdir / "results.json").write_text(json.dumps(document))
    return Outcome(document, (Artifact("results.json", "application/json", "Result document"),))


def _misbehave(run: Run, params: RelayParams, *, step: int) -> None:
    _work(run, params.seconds)
    if params.fail and params.fail_in == step:
        MISBEHAVIOURS[params.fail](run)


def _work(run: Run, seconds: float) -> None:
    begun = time.monotonic()
    while (elapsed := time.monotonic() - begun) < seconds:
        run.report(elapsed / seconds, "working")
        time.sleep(min(STEP_S, seconds - elapsed))
    run.report(1.0, "working")


def _size(run: Run) -> int:
    path = run.inputs.get("file")
    if path is None:
        raise InputInvalid("There is no file.", label="file", remedy="Give one.")
    return path.stat().st_size


def _error(_run: Run) -> NoReturn:
    raise InputInvalid("The file is refused, as asked.", label="file", remedy="Do not ask for it.", details={"a": 1})


def _defect(_run: Run) -> NoReturn:
    raise ZeroDivisionError("a defect, as asked")


def _exit(_run: Run) -> NoReturn:
    os._exit(7)


def _hang(run: Run) -> None:
    run.report(0.5, "hanging")
    # One call into C that keeps the interpreter's lock: no thread of Python runs until it ends, which is never.
    re.match(r"(a+)+$", "a" * 64 + "b")


def _memory(run: Run) -> NoReturn:
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(4096) * (BLOCK // 4096)))
        run.report(0.5, "hoarding")
        time.sleep(0.01)


def _disk(run: Run) -> NoReturn:
    with (run.outdir / "heap.bin").open("wb") as heap:
        while True:
            heap.write(b"\1" * BLOCK)


def _spawn(run: Run) -> NoReturn:
    """Start a program that ignores polite requests, in a process group of its own, then wait for ever."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"
    marker = str(run.outdir)  # on the command line, so that tests can find it
    with subprocess.Popen([sys.executable, "-c", code, marker], process_group=0):
        run.report(0.5, "waiting")
    raise AssertionError("the program ended by itself")


def _noise(_run: Run) -> None:
    os.write(1, b"native noise\n" * 10_000)
    os.write(2, b"x" * 5_000_000)


MISBEHAVIOURS: dict[str, Callable[[Run], None]] = {
    "error": _error,
    "defect": _defect,
    "exit": _exit,
    "hang": _hang,
    "memory": _memory,
    "disk": _disk,
    "spawn": _spawn,
    "noise": _noise,
}
"""What each value of ``ConstantParams.fail`` does."""
