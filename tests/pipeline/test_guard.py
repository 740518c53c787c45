"""Sessions are ended whole, and a process follows its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import guard

pytestmark = pytest.mark.service

PATIENCE_S = 30.0
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
print(child.pid, flush=True)
time.sleep(600)
"""
FOLLOWER = """
import os, signal, sys, time
from pipeline.guard import follow
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
follow(int(sys.argv[1]), grace_s=0.5)
print("following", flush=True)
time.sleep(600)
"""
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid()), sys.argv[2]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


def wait_until(gone: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{gone}").exists() and "Z" not in Path(f"/proc/{gone}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.02)


def test_a_session_is_killed_whole_whatever_groups_and_signals_its_members_chose() -> None:
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, start_new_session=True) as leader:
        assert leader.stdout is not None
        child = int(leader.stdout.readline())
        assert sorted(guard.members(leader.pid)) == sorted([leader.pid, child])
        assert guard.kill_session(leader.pid)
        assert guard.members(leader.pid) == []
        assert leader.wait() == -signal.SIGKILL


def test_killing_a_session_that_is_gone_is_no_error() -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"], start_new_session=True) as leader:
        leader.wait()
    assert guard.kill_session(leader.pid)


@pytest.mark.parametrize("manner", ["polite", "stubborn"])
def test_a_process_that_follows_ends_with_its_parent(manner: str) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, FOLLOWER, manner], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        wait_until(child)
    assert not Path(f"/proc/{child}/cmdline").exists() or Path(f"/proc/{child}/cmdline").read_bytes() == b""
