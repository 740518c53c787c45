"""One run in a child process: its progress read, its memory and time capped, its whole session ended."""

import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import psutil

from app.services.runs import Verdict
from pipeline import guard
from pipeline.child import OUTCOME, RunSpec
from pipeline.errors import Defect, OutOfMemory, PipelineError, StorageFull, TimedOut
from worker import machine
from worker.runs.lines import Lines, Tail

TICK_S = 0.1
GRACE_S = 2.0
DRAIN_S = 2.0
MIB = 2**20
_TMP = "tmp"
_REPORT = "This is a defect; please report it with the worker's log."
_LESS = "Crop or thin the surveys, or give the worker more memory (VOLCAL_RUN_MEMORY_MB)."


class EndKind(StrEnum):
    """How a run came to its end."""

    DONE = "done"
    FAILED = "failed"  # the error document says why
    CANCELLED = "cancelled"
    LOST = "lost"  # the lease is somebody else's
    STOPPED = "stopped"  # the worker was asked to stop
    VANISHED = "vanished"  # killed from outside by nobody of ours: worth another attempt


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, and what it left.

    Args:
        kind: In which way.
        document: The result document, if done.
        artifacts: ``name``, ``media_type`` and ``title`` of each result file, if done.
        error: The error document, if failed.
        log: The last lines that the run wrote to standard error.
        peak_mb: Most memory that the run's processes held together, MiB.
        seconds: How long it took.
    """

    kind: EndKind
    document: dict[str, Any] = field(default_factory=dict)
    artifacts: tuple[dict[str, str], ...] = ()
    error: dict[str, Any] = field(default_factory=dict)
    log: str = ""
    peak_mb: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use.

    Args:
        timeout_s: Longest time, seconds.
        memory_mb: Most memory of all its processes together, MiB.
        threads: Threads that native libraries start.
    """

    timeout_s: float
    memory_mb: int
    threads: int = 1


class Conversation(Protocol):
    """What is said between a run and its supervisor besides progress and errors, in threads of its own."""

    def begin(self, say: Callable[[dict[str, Any] | None], None]) -> None:
        """Begin; ``say`` sends a command to the run, and ``None`` says that there will be no more."""

    def hear(self, event: dict[str, Any]) -> None:
        """Take what the run says; must not wait for anything."""

    def end(self) -> None:
        """End: the run has ended, or is to; what is under way is given up. May be called twice."""


def supervise(
    spec: RunSpec | None,
    *,
    workdir: Path,
    limits: Limits,
    heartbeat: Callable[[float, str], Verdict],
    stopping: Callable[[], bool] = lambda: False,
    on_stage: Callable[[str], object] = str,
    conversation: Conversation | None = None,
    on_output: Callable[[bytes], object] = bytes,
) -> Ending:
    """Run a pipeline to its end, whatever end that is; no process of it is left afterwards.

    Must be called from a thread that outlives the run: the kernel ends the child with the thread that started it.

    Args:
        spec: What to run; None = parts of others' runs, as the conversation commands.
        workdir: An empty folder of this run's own, for the spec, the outcome and temporary files.
        limits: What the run may use.
        heartbeat: Told how far the run is (fraction, stage) ten times a second; answers at once what to do.
        stopping: Whether the worker was asked to stop.
        on_stage: Told what the run does whenever it says so.
        conversation: What else is said; None = nothing.
        on_output: Given what the run writes to its standard error, in pieces.
    """
    return _Supervision(spec, workdir, limits, heartbeat, stopping, on_stage, conversation, on_output).run()


class _Supervision:
    def __init__(
        self,
        spec: RunSpec | None,
        workdir: Path,
        limits: Limits,
        heartbeat: Callable[[float, str], Verdict],
        stopping: Callable[[], bool],
        on_stage: Callable[[str], object],
        conversation: Conversation | None,
        on_output: Callable[[bytes], object],
    ) -> None:
        self._workdir = workdir
        self._outdir = workdir if spec is None else spec.outdir
        self._helps = spec is None
        self._conversation = conversation
        self._limits = limits
        self._heartbeat = heartbeat
        self._stopping = stopping
        self._on_stage = on_stage
        self._on_output = on_output
        self._progress = (0.0, "")
        self._reported: dict[str, Any] | None = None
        self._log = Tail()
        self._peak_mb = 0.0
        self._ooms = machine.oom_kills()
        (workdir / _TMP).mkdir()
        words = ["help"]
        if spec is not None:
            (workdir / "spec.json").touch(mode=0o600)  # it may hold a password
            (workdir / "spec.json").write_text(spec.model_dump_json())
            words = ["run", str(workdir / "spec.json")]
        self._begun = time.monotonic()
        self._commands: int | None = None
        heard: int | None = None
        if conversation is not None:
            heard, self._commands = os.pipe()
        try:
            self._process = _start(words, workdir, limits, heard)
        except BaseException:
            self._say(None)
            raise
        finally:
            if heard is not None:
                os.close(heard)
        if conversation is not None:
            conversation.begin(self._say)

    def run(self) -> Ending:
        """Watch until the end."""
        try:
            reason = self._watch()
            if self._conversation is not None:
                self._conversation.end()
            return self._ending(reason)
        finally:
            self._process.kill()  # no harm if it has ended
            if self._conversation is not None:
                self._conversation.end()
                self._say(None)
            self._process.wait()
            guard.kill_session(self._process.pid)
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                with suppress(OSError):
                    stream.close()  # type: ignore[union-attr]

    def _watch(self) -> EndKind | PipelineError | None:
        """Wait for the run to end, or end it; return why it had to be ended."""
        reason: EndKind | PipelineError | None = None
        with selectors.DefaultSelector() as streams:
            self._listen(streams)
            due = 0.0
            while self._process.poll() is None:
                self._read(streams, TICK_S)
                if time.monotonic() >= due:
                    if (reason := self._reason_to_end()) is not None:
                        break
                    due = time.monotonic() + TICK_S
            if reason is not None:
                self._end(streams, politely=not isinstance(reason, OutOfMemory))
            guard.kill_session(self._process.pid)  # what the run has left running
            deadline = time.monotonic() + DRAIN_S
            while streams.get_map() and time.monotonic() < deadline:
                self._read(streams, TICK_S)
        return reason

    def _reason_to_end(self) -> EndKind | PipelineError | None:
        if self._stopping():
            return EndKind.STOPPED
        verdict = self._heartbeat(*self._progress)
        if verdict is not Verdict.CONTINUE:
            return EndKind.CANCELLED if verdict is Verdict.CANCEL else EndKind.LOST
        seconds = time.monotonic() - self._begun
        if seconds > self._limits.timeout_s:
            return TimedOut(
                f"The run took longer than the {self._limits.timeout_s:g} seconds it may take.",
                remedy="Crop or thin the surveys, or raise VOLCAL_RUN_TIMEOUT_S.",
                details={"limit_s": self._limits.timeout_s},
            )
        held = _memory_mb(self._process.pid)
        self._peak_mb = max(self._peak_mb, held)
        if held > self._limits.memory_mb:
            return self._too_much()
        return None

    def _too_much(self) -> OutOfMemory:
        return OutOfMemory(
            f"The run needed more memory than the {self._limits.memory_mb} MiB it may use.",
            remedy=_LESS,
            details={"limit_mb": self._limits.memory_mb, "peak_mb": round(self._peak_mb)},
        )

    def _end(self, streams: selectors.BaseSelector, *, politely: bool) -> None:
        if politely:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            deadline = time.monotonic() + GRACE_S
            while self._process.poll() is None and time.monotonic() < deadline:
                self._read(streams, TICK_S / 2)
        self._process.kill()
        self._process.wait()

    def _listen(self, streams: selectors.BaseSelector) -> None:
        assert self._process.stdout is not None  # noqa: S101  (narrowing: both are pipes)
        assert self._process.stderr is not None  # noqa: S101
        for stream, sink in ((self._process.stdout, Lines(self._hear).feed), (self._process.stderr, self._complain)):
            os.set_blocking(stream.fileno(), False)
            streams.register(stream, selectors.EVENT_READ, sink)

    def _read(self, streams: selectors.BaseSelector, timeout_s: float) -> None:
        if not streams.get_map():
            time.sleep(timeout_s)
            return
        for key, _ in streams.select(timeout_s):
            try:
                data = os.read(key.fd, 65536)
            except BlockingIOError:
                continue
            if data:
                key.data(data)
            else:
                streams.unregister(key.fileobj)

    def _say(self, command: dict[str, Any] | None) -> None:
        """Send a command to the run; one that has ended hears nothing."""
        if self._commands is None:
            return
        if command is None:
            os.close(self._commands)
            self._commands = None
            return
        line = memoryview(json.dumps(command).encode() + b"\n")
        with suppress(BrokenPipeError):
            while line:
                line = line[os.write(self._commands, line) :]

    def _complain(self, data: bytes) -> None:
        self._log.feed(data)
        self._on_output(data)

    def _hear(self, event: dict[str, Any]) -> None:
        if event.get("event") == "progress":
            fraction, stage = event.get("fraction"), event.get("stage")
            if isinstance(fraction, int | float) and isinstance(stage, str):
                # what no fraction can be (NaN, a number of a thousand digits) says nothing, and nothing falls
                reached = min(max(fraction, 0), 1) if fraction == fraction else 0  # NaN is not itself
                self._progress = (max(float(reached), self._progress[0]), stage)
                self._on_stage(stage)
        elif event.get("event") == "error":
            self._reported = {key: event.get(key) for key in ("code", "label", "message", "remedy", "details")}
        elif self._conversation is not None:
            self._conversation.hear(event)

    def _ending(self, reason: EndKind | PipelineError | None) -> Ending:
        facts: dict[str, Any] = {
            "log": self._log.text(),
            "peak_mb": self._peak_mb,
            "seconds": time.monotonic() - self._begun,
        }
        if isinstance(reason, EndKind):
            return Ending(reason, **facts)
        if reason is None and self._process.returncode == 0:
            outcome = ({}, ()) if self._helps else _read_outcome(self._workdir / OUTCOME)
            if outcome is not None:
                return Ending(EndKind.DONE, *outcome, **facts)
        error = reason.document() if reason is not None else self._reported or self._unexplained()
        return Ending(EndKind.VANISHED, **facts) if error is None else Ending(EndKind.FAILED, error=error, **facts)

    def _unexplained(self) -> dict[str, Any] | None:
        """Explain an end that the run did not announce; None if somebody killed it."""
        code = self._process.returncode
        if code in {-signal.SIGBUS, -signal.SIGXFSZ} or (code != 0 and machine.is_full(self._outdir)):
            return StorageFull(
                "The run ended because a file could not be written.",
                remedy="Free space on the worker's disk, then restart the task.",
            ).document()
        if code == -signal.SIGKILL:
            near = self._peak_mb > 0.9 * self._limits.memory_mb
            return self._too_much().document() if near or machine.oom_kills() > self._ooms else None
        if code in {-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, 130}:
            return None
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        what = "without a result" if code == 0 else f"unexpectedly ({how})"
        return Defect(f"The run ended {what}.", remedy=_REPORT, details={"exit": code}).document()


def _start(words: list[str], workdir: Path, limits: Limits, commands: int | None) -> subprocess.Popen[bytes]:
    heard = [] if commands is None else ["--commands", str(commands)]
    process = subprocess.Popen(
        # -P: the working folder holds a stranger's files, none of which may be imported
        [sys.executable, "-P", "-m", "pipeline", *words, "--supervised", *heard],
        cwd=workdir,
        env=_environment(os.environ, workdir, limits),
        pass_fds=() if commands is None else (commands,),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    # A net under the measured cap: a burst between two looks fails inside the run, not on the machine.
    ceiling = int(limits.memory_mb * 1.5 + 1024) * MIB
    with suppress(OSError, ValueError):
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (ceiling, ceiling))
    with suppress(OSError):
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("500")  # rather the run than the worker
    return process


def _environment(outer: Mapping[str, str], workdir: Path, limits: Limits) -> dict[str, str]:
    """Return the child's environment: no secrets of the service, no way around the gate, and a share of the cores."""
    kept = {
        key: value for key, value in outer.items() if not machine.is_secret(key) and not key.lower().endswith("_proxy")
    }
    threads = str(max(1, limits.threads))
    names = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA", "GDAL", "RAYON")
    return (
        kept | {f"{name}_NUM_THREADS": threads for name in names} | {"MPLBACKEND": "Agg", "TMPDIR": str(workdir / _TMP)}
    )


def _memory_mb(session: int) -> float:
    held = 0
    for pid in guard.members(session):
        with suppress(psutil.Error):
            held += psutil.Process(pid).memory_info().rss
    return held / MIB


def _read_outcome(path: Path) -> tuple[dict[str, Any], tuple[dict[str, str], ...]] | None:
    try:
        outcome = json.loads(path.read_bytes())
        return outcome["document"], tuple(outcome["artifacts"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
