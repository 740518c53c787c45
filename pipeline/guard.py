"""No process outlives the one that asked for it, whatever ends that one."""

import contextlib
import ctypes
import os
import select
import signal
import threading
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LOOK_EVERY_S = 0.5


def die_with_parent() -> None:
    """Have the kernel end this process when the thread that started it ends, even by ``kill -9`` (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def members(session: int) -> list[int]:
    """Return the living processes of a session, whatever process groups they chose.

    >>> os.getpid() in members(os.getsid(0))
    True
    """
    found = []
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    for pid in pids:
        with contextlib.suppress(OSError):
            if os.getsid(pid) == session and not _is_zombie(pid):
                found.append(pid)
    return found


def kill_session(session: int, *, within_s: float = 5.0) -> bool:
    """Kill every process of a session except this one; return whether all of them went in time.

    Args:
        session: Id of the session, which is the process id of its leader.
        within_s: Seconds to wait for processes that the kernel holds, such as in a read from a dead disk.
    """
    deadline = time.monotonic() + within_s
    while True:
        left = [pid for pid in members(session) if pid != os.getpid()]
        if not left or time.monotonic() > deadline:
            return not left
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def guard_session(lifeline: int, *close: int) -> None:
    """Fork a guardian that kills this process's session once the supervisor or this process is gone.

    A thread could not do it: native code may hold the interpreter's lock for minutes. The kernel's own signal on
    the parent's death reaches this process but not the programs that it started.

    Args:
        lifeline: Descriptor of a pipe that the supervisor holds open and never writes to.
        close: Descriptors that the guardian must not keep open.

    Raises:
        RuntimeError: If this process does not lead its session, and so may not end it.
    """
    child = os.getpid()
    if os.getsid(0) != child:
        raise RuntimeError("only the leader of a session can have it guarded")
    if os.fork() != 0:
        return
    try:
        for fd in close:
            os.close(fd)
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        # Signals to the group are for the run; the guardian goes when the run has gone.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _await_end(lifeline, child)
        kill_session(child)
    finally:
        os._exit(0)


def _await_end(lifeline: int, child: int) -> None:
    poll = select.poll()
    poll.register(lifeline, select.POLLIN | select.POLLHUP)
    while os.getppid() == child:
        if poll.poll(_LOOK_EVERY_S * 1000) and not os.read(lifeline, 4096):
            return


def _is_zombie(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    return status.rpartition(")")[2].split()[0] in "ZX"


def follow(parent: int, *, grace_s: float = 10.0) -> None:
    """End this process when its parent is gone: politely first, for certain after ``grace_s`` seconds.

    Args:
        parent: Process id of who started this one; if that is no longer the parent, this process ends now.
        grace_s: Seconds to end by itself after the polite request.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY_S)
        if grace_s > 0:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(grace_s)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="follow-parent", daemon=True).start()
