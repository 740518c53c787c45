"""`volcal submit` against a real gateway: what was interrupted goes on where it stopped."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Gateway

pytestmark = pytest.mark.service
VOLCAL = Path(sys.executable).with_name("volcal")
SAMPLE = Path(__file__).parents[2] / "app" / "samples" / "ttp"


@pytest.fixture(scope="module")
def surveys(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two large clouds and the parts of a shapefile."""
    folder = tmp_path_factory.mktemp("surveys")
    some = random.Random(5)
    lines = "".join(
        f"{630000 + some.random() * 100:.3f} {4833000 + some.random() * 100:.3f} 76.5\n" for _ in range(9999)
    )
    for name in ("pre.xyz", "post.xyz"):
        (folder / name).write_text(lines * 50)
    for suffix in (".shp", ".shx", ".prj"):
        shutil.copy((SAMPLE / "stable_area").with_suffix(suffix), folder)
    return [folder / "pre.xyz", folder / "post.xyz", folder / "stable_area.shp"]


class Submission:
    def __init__(self, gateway: "Gateway", surveys: list[Path], state: Path, *more: str) -> None:
        self.state = state / "volcal"
        self.process = subprocess.Popen(
            [VOLCAL, "submit", *surveys, "--server", gateway.url, *more],
            env={**os.environ, "XDG_STATE_HOME": str(state)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def remembered(self) -> str | None:
        for path in self.state.glob("*.json"):
            task_id: str = json.loads(path.read_text())["task_id"]
            return task_id
        return None

    def end(self) -> tuple[int, str, str]:
        shown, told = self.process.communicate(timeout=120)
        return self.process.returncode, shown, told


def stored(gateway: "Gateway", task_id: str, label: str) -> bytes:
    (found,) = (gateway.folder / "objects" / "tasks" / task_id / "in").glob(f"{label}-*")
    return found.read_bytes()


def interrupted(gateway: "Gateway", surveys: list[Path], state: Path, how: signal.Signals) -> tuple[str, int, str]:
    """Submit, and end the client while the server holds its breath in the middle."""
    submission = Submission(gateway, surveys, state)
    deadline = time.monotonic() + 60
    while (task_id := submission.remembered()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    gateway.signal(signal.SIGSTOP)
    try:
        time.sleep(0.3)
        submission.process.send_signal(how)
        status, _, told = submission.end()
    finally:
        gateway.signal(signal.SIGCONT)
    return task_id, status, told


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_the_same_command_continues_what_was_interrupted(
    gateway: "Gateway", surveys: list[Path], tmp_path: Path, how: signal.Signals
) -> None:
    task_id, status, told = interrupted(gateway, surveys, tmp_path / "state", how)
    if how == signal.SIGINT:
        assert status == 130
        assert "The same command goes on from there: volcal submit" in told
        assert "Traceback" not in told
    again = Submission(gateway, surveys, tmp_path / "state")
    status, _, told = again.end()
    assert status == 0, told
    assert f"Task {task_id}, continued" in told
    assert again.remembered() is None
    for label, path in (("pre", surveys[0]), ("post", surveys[1]), ("shp", surveys[2])):
        assert stored(gateway, task_id, label) == path.read_bytes()
    task = httpx.get(f"{gateway.url}/api/v1/tasks/{task_id}", timeout=10).json()
    assert task["status"] == "pending"
    assert task["uploads"]["pre"]["filename"] == "pre.xyz"
    assert task["uploads"]["prj"]["state"] == "finished"
    assert gateway.rung() == [task_id]


def test_new_starts_afresh(gateway: "Gateway", surveys: list[Path], tmp_path: Path) -> None:
    task_id, _, _ = interrupted(gateway, surveys, tmp_path / "state", signal.SIGINT)
    status, shown, told = Submission(gateway, surveys, tmp_path / "state", "--new", "--json").end()
    assert status == 0, told
    task = json.loads(shown)
    assert task["id"] != task_id
    assert task["status"] == "pending"
    assert told == ""


def test_a_task_that_the_server_forgot_is_begun_anew(gateway: "Gateway", surveys: list[Path], tmp_path: Path) -> None:
    task_id, _, _ = interrupted(gateway, surveys, tmp_path / "state", signal.SIGINT)
    assert httpx.delete(f"{gateway.url}/api/v1/tasks/{task_id}", timeout=10).status_code == 204
    status, _, told = Submission(gateway, surveys, tmp_path / "state").end()
    assert status == 0, told
    assert "continued" not in told
    assert gateway.rung() == [told.split()[1]]


def test_a_server_that_is_killed_during_the_upload_is_waited_for(
    gateway: "Gateway", surveys: list[Path], tmp_path: Path
) -> None:
    submission = Submission(gateway, surveys, tmp_path / "state")
    while submission.remembered() is None and submission.process.poll() is None:
        time.sleep(0.002)
    gateway.kill()
    time.sleep(0.5)
    gateway.start()
    status, _, told = submission.end()
    assert status == 0, told
    task_id = told.split()[1]
    assert stored(gateway, task_id, "post") == surveys[1].read_bytes()


def test_a_task_is_looked_at_and_cancelled(gateway: "Gateway", surveys: list[Path], tmp_path: Path) -> None:
    status, shown, _ = Submission(gateway, surveys, tmp_path / "state", "--json").end()
    assert status == 0
    task_id = json.loads(shown)["id"]

    def volcal(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [VOLCAL, *arguments, "--server", gateway.url], capture_output=True, text=True, timeout=60, check=False
        )

    looked = volcal("status", task_id)
    assert looked.returncode == 0
    assert f"{task_id}: pending" in looked.stdout
    assert "number 1" in looked.stdout
    assert json.loads(volcal("status", task_id, "--json").stdout)["status"] == "pending"
    assert "is cancelled" in volcal("cancel", task_id).stdout
    again = volcal("cancel", task_id)
    assert again.returncode == 2
    assert again.stderr.startswith("error[ILLEGAL_TRANSITION]: ")
    fetched = volcal("fetch", task_id)
    assert fetched.returncode == 2
    assert fetched.stderr.splitlines()[-1].startswith("error[CANCELLED]: ")
    unknown = volcal("status", "00000000-0000-0000-0000-000000000000")
    assert (unknown.returncode, unknown.stderr.split(":")[0]) == (2, "error[TASK_NOT_FOUND]")
