"""Database and store are saved, wiped and restored: who finds what afterwards?"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg2
import pytest

import app.samples
from tests.servers.stack import FullStack, send

pytestmark = pytest.mark.service

ROOT = Path(__file__).parents[2]
SHX = (Path(app.samples.__file__).parent / "ttp" / "stable_area.shx").read_bytes()


@pytest.fixture(scope="module")
def stack() -> Iterator[FullStack]:
    with FullStack() as running:
        yield running


def run(stack: FullStack, script: str, *words: str) -> str:
    """Run one of the scripts of the guide, without containers."""
    programs = [str(Path(sys.executable).parent), str(stack.postgres._programs), os.environ["PATH"]]
    environment = {
        **os.environ,
        **stack.environment,
        "PATH": os.pathsep.join(programs),
        "VOLCAL_DATA_DIR": str(stack.folder / "cli"),
    }
    done = subprocess.run(
        [str(ROOT / "docker" / script), *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask(stack: FullStack, method: str, path: str) -> httpx.Response:
    return httpx.request(method, f"{stack.url}{path}", timeout=30, trust_env=False)


def stop(stack: FullStack) -> None:
    for part in (stack.gateway, stack.beat, stack.tusd, *stack.workers):
        part.kill()  # all at once, as when a machine burns


def wipe(stack: FullStack) -> None:
    """Lose the database, the store and the broker's memory."""
    connection = psycopg2.connect(stack.environment["DATABASE_URL"])
    with connection, connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    connection.close()
    stack.minio.stop()
    shutil.rmtree(stack.minio.folder / "disk")
    stack.minio.start()
    stack.broker.flush()  # type: ignore[union-attr]


def start(stack: FullStack) -> None:
    for part in (stack.tusd, stack.gateway, stack.beat, *stack.workers):
        part.start()


def head(url: str) -> int:
    return httpx.head(url, headers={"Tus-Resumable": "1.0.0"}, timeout=30, trust_env=False).status_code


def fresh(stack: FullStack, task_id: str, label: str) -> str:
    answer = ask(stack, "POST", f"/api/v1/tasks/{task_id}/uploads/{label}").raise_for_status()
    return str(answer.json()["url"])


def test_a_backup_is_complete_or_not_there_and_a_second_one_copies_what_is_new(
    stack: FullStack, tmp_path: Path
) -> None:
    first = stack.submit(b"first")
    stack.settled(first)
    run(stack, "backup.sh", str(tmp_path))
    before = {path: path.stat().st_ino for path in (tmp_path / "objects").rglob("*") if path.is_file()}
    assert {path.name.partition("-")[0] for path in before} == {"file", "results.json"}
    second = stack.submit(b"second")
    stack.settled(second)
    run(stack, "backup.sh", str(tmp_path))
    after = {path: path.stat().st_ino for path in (tmp_path / "objects").rglob("*") if path.is_file()}
    assert before.items() <= after.items()
    assert all(f"/{second}/" in str(path) for path in after.keys() - before.keys())
    assert len(after) == 2 * len(before)
    stack.minio.stop()
    with pytest.raises(AssertionError, match="STORAGE"):
        run(stack, "backup.sh", str(tmp_path))
    stack.minio.start()
    assert len(list(tmp_path.glob("database-*"))) in (1, 2)  # two within one second are one
    assert not list(tmp_path.glob("*.part"))


def test_after_a_restore_every_task_goes_on_from_where_it_was_saved(stack: FullStack, tmp_path: Path) -> None:
    done = stack.submit(b"twelve bytes")
    assert stack.settled(done)["status"] == "done"
    old_link = link_of(stack, done)["url"]
    running = stack.submit(b"run me again", seconds=8)
    pending = stack.submit(b"behind it")  # one worker, one run at a time
    half = stack.create()
    half_url = half["uploads"]["file"]["url"]
    assert send(half_url, b"12345", length=10).status_code == 204
    two = stack.create("volume_change")
    assert send(two["uploads"]["shx"]["url"], SHX).status_code == 204
    stack.until(two["id"], lambda task: "shx" not in task["missing"], "told that shx is there")
    stack.running(running)

    dump = run(stack, "backup.sh", str(tmp_path)).splitlines()[-1]
    after = stack.submit(b"came after the backup")
    stop(stack)
    wipe(stack)
    said = run(stack, "restore.sh", dump)
    assert f"upload file of task {half['id']} (waiting)" in said
    assert said.count(f"of task {two['id']} (waiting)") == 3
    assert "4 uploads closed." in said
    start(stack)

    check_done(stack, done)
    assert httpx.get(old_link, timeout=30, trust_env=False).json()["answer"] == 42  # for as long as it was made to work
    assert stack.settled(running)["status"] == "done"
    assert stack.task(running)["attempts"] == 2  # the first was under way when the database was saved
    assert stack.settled(pending)["status"] == "done"
    assert ask(stack, "GET", f"/api/v1/tasks/{after}").status_code == 404

    # What was half sent is sent anew; what was whole is there.
    assert head(half_url) in (404, 410)
    assert send(fresh(stack, half["id"], "file"), b"1234567890").status_code == 204
    assert stack.settled(half["id"])["status"] == "done"
    assert stack.task(two["id"])["missing"] == ["pre", "post", "shp"]
    assert send(fresh(stack, two["id"], "pre"), b"no cloud").status_code in (204, 400)
    assert stack.settled(two["id"])["error"]["code"] == "INPUT_INVALID"
    assert "0 objects, 0 bytes can be deleted." in stack.volcal("tidy")


def link_of(stack: FullStack, task_id: str) -> dict[str, Any]:
    [artifact] = ask(stack, "GET", f"/api/v1/tasks/{task_id}/artifacts").json()["artifacts"]
    return dict(artifact)


def check_done(stack: FullStack, task_id: str) -> None:
    assert stack.results(task_id)["answer"] == 42
    assert stack.results(task_id)["bytes"] == len(b"twelve bytes")
    artifact = link_of(stack, task_id)
    link = httpx.get(artifact["url"], timeout=30, trust_env=False)
    assert link.status_code == 200
    assert urlsplit(artifact["url"]).port == stack.nginx.store_port  # as clients reach the store
    assert link.json()["answer"] == 42
    assert artifact["size"] == len(link.content)


def test_who_does_not_send_again_is_told_so_in_the_end(tmp_path: Path) -> None:
    with FullStack(VOLCAL_UPLOAD_TTL_S="1") as stack:
        stack.beat.kill()  # not before the backup
        task: dict[str, Any] = stack.create()
        dump = run(stack, "backup.sh", str(tmp_path)).splitlines()[-1]
        stop(stack)
        wipe(stack)
        run(stack, "restore.sh", dump)
        start(stack)
        ended = stack.settled(task["id"])
        assert (ended["status"], ended["error"]["code"]) == ("killed", "EXPIRED")
        assert ended["error"]["remedy"]
