"""Two workers of the embedded service share a task, and the one that helps is killed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest

from tests.faults.conftest import QUICK, wait_for

pytestmark = pytest.mark.service

CONTENT = bytes(range(256)) * 64


@contextmanager
def second_worker(service: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A worker beside the service's own, as on another machine that shares its database, queue and store."""
    environment = {**os.environ, **QUICK, **service.settings, "VOLCAL_DATA_DIR": str(service.data)}
    command = [sys.executable, "-P", "-m", "app.cli", "work", "--name", "second@volcal"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def submit(service: Any, **options: Any) -> str:
    body = {"pipeline": "shared", "options": options}
    task = httpx.post(f"{service.url}/api/v1/tasks", json=body, timeout=30).raise_for_status().json()
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Upload-Length": str(len(CONTENT)),
        "Content-Type": "application/offset+octet-stream",
    }
    assert httpx.patch(task["uploads"]["file"]["url"], content=CONTENT, headers=headers, timeout=30).is_success
    return str(task["id"])


def helping(*pids: int) -> psutil.Process | None:
    """Return a process that helps, of any of these workers."""
    found = [each for pid in pids for each in psutil.Process(pid).children(recursive=True)]
    return next((each for each in found if "help" in each.cmdline()), None)


@pytest.mark.case(22)
def test_a_helping_worker_that_is_killed_loses_nothing(own_service: Any) -> None:
    own_service.settings |= {"VOLCAL_HELPERS": "1", "VOLCAL_RUN_TIMEOUT_S": "60"}
    own_service.start()
    with second_worker(own_service) as worker:
        wait_for(lambda: psutil.Process(worker.pid).children(), "the second worker")
        task_id = submit(own_service, parts=4, seconds=1.5)  # either worker takes it, and the other one helps
        child = wait_for(lambda: helping(worker.pid, own_service.part("work").pid), "help")
        for process in (child, *child.parents()[:2]):  # its pool's process, and the worker itself
            process.kill()
        task = own_service.settled(task_id)
    assert (task["status"], task["attempts"]) == ("done", 1)
    results = httpx.get(f"{own_service.url}/api/v1/tasks/{task_id}/results", timeout=30).raise_for_status().json()
    assert results["sums"] == [sum(CONTENT)] * 2
