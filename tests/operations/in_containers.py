"""Do docker/backup.sh and docker/restore.sh work with docker compose? A stage of `make test-compose`."""

import os
import subprocess
import tempfile
from pathlib import Path

import httpx

from tests.compose.engine import compose_binary
from tests.compose.project import NAME, ROOT, Project

URL = "http://localhost:8000"
_HEADERS = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}


def saved_and_restored(project: Project) -> None:
    """Save, lose every volume, restore: a task that was done still is, and its link works."""
    from tests.compose.journey import settled

    created = httpx.post(f"{URL}/api/v1/tasks", json={"pipeline": "constant"}, timeout=30).raise_for_status().json()
    sent = httpx.patch(
        created["uploads"]["file"]["url"], content=b"12345", headers={**_HEADERS, "Upload-Length": "5"}, timeout=30
    )
    assert sent.status_code == 204, sent.text
    settled(created["id"])
    with tempfile.TemporaryDirectory() as folder:
        dump = _run(project, folder, "backup.sh", f"{folder}/backup").splitlines()[-1]
        project.compose("down", "--volumes", timeout=240)
        said = _run(project, folder, "restore.sh", dump)
    assert "0 uploads closed." in said, said
    assert "gone:" not in said, said
    project.up()
    [artifact] = httpx.get(f"{URL}/api/v1/tasks/{created['id']}/artifacts", timeout=30).json()["artifacts"]
    assert httpx.get(artifact["url"], timeout=30).json()["answer"] == 42


def _run(project: Project, folder: str, script: str, *words: str) -> str:
    """Run a script where `docker compose` is the real one, speaking to the project's engine."""
    docker = Path(folder) / "docker"
    docker.write_text(
        f'#!/bin/sh\nshift\nexec "{compose_binary()}" --project-name "{NAME}" --env-file "{project._env}" "$@"\n'
    )
    docker.chmod(0o755)
    path = f"{folder}{os.pathsep}{project.engine.environment.get('PATH', os.environ['PATH'])}"
    done = subprocess.run(
        [ROOT / "docker" / script, *words],
        env=project.engine.environment | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout
