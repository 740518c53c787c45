import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi.testclient import TestClient

from app.db.models import Task
from app.domain.tasks import TaskState
from app.main import create_app
from app.serving import server

TASKS = "/api/v1/tasks"
WAIT = {"Prefer": "wait=60"}


@pytest.fixture
def later(client: TestClient, world: Any) -> Iterator[Any]:
    """Change a task as soon as somebody waits for it."""
    over, threads = threading.Event(), []

    def begin(task_id: Any, **values: Any) -> None:
        def change() -> None:
            while task_id not in client.app.state.watcher._watches and not over.wait(0.01):
                pass
            with world.context.unit_of_work() as work:
                task = work.session.get(Task, task_id)
                for name, value in values.items():
                    setattr(task, name, value)
                work.commit()

        threads.append(threading.Thread(target=change))
        threads[-1].start()

    yield begin
    over.set()
    for thread in threads:
        thread.join()


def test_what_has_not_changed_is_not_sent_again(client: TestClient, world: Any) -> None:
    path = f"{TASKS}/{world.add(TaskState.RUNNING, stage='reading')}"
    first = client.get(path)
    assert first.headers["cache-control"] == "private, no-cache"
    for tag in (first.headers["etag"], f'"x", W/{first.headers["etag"]}', "*"):
        again = client.get(path, headers={"If-None-Match": tag})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert client.get(path, headers={"If-None-Match": '"x"'}).json() == first.json()


def test_bytes_that_arrive_change_the_tag(client: TestClient) -> None:
    task = client.post(TASKS, json={"pipeline": "four"}).json()
    tag = client.get(f"{TASKS}/{task['id']}").headers["etag"]
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Upload-Length": "10",
        "Content-Type": "application/offset+octet-stream",
    }
    client.patch(task["uploads"]["pre"]["url"].replace("http://volcal.test", ""), content=b"abc", headers=headers)
    assert client.get(f"{TASKS}/{task['id']}", headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize("with_tag", [True, False])
def test_who_prefers_to_wait_is_answered_when_the_task_changes(
    client: TestClient, world: Any, later: Any, with_tag: bool
) -> None:
    task_id = world.add(TaskState.RUNNING, stage="reading")
    tag = client.get(f"{TASKS}/{task_id}").headers["etag"]
    later(task_id, stage="comparing")
    answer = client.get(f"{TASKS}/{task_id}", headers=WAIT | ({"If-None-Match": tag} if with_tag else {}))
    assert answer.json()["stage"] == "comparing"
    assert answer.headers["preference-applied"] == "wait=60"


def test_who_knows_less_than_there_is_need_not_wait(client: TestClient, world: Any) -> None:
    task_id = world.add(TaskState.RUNNING)
    answer = client.get(f"{TASKS}/{task_id}", headers={**WAIT, "If-None-Match": '"older"'})
    assert answer.json()["status"] == "running"


@pytest.mark.parametrize("state", [TaskState.DONE, TaskState.ERROR, TaskState.KILLED])
def test_what_is_over_is_not_waited_for(client: TestClient, world: Any, state: TaskState) -> None:
    path = f"{TASKS}/{world.add(state)}"
    answer = client.get(path, headers=WAIT)
    assert answer.json()["status"] == state
    assert client.get(path, headers={**WAIT, "If-None-Match": answer.headers["etag"]}).status_code == 304


def test_after_the_time_the_answer_is_that_nothing_changed(client: TestClient, world: Any) -> None:
    path = f"{TASKS}/{world.add(TaskState.RUNNING)}"
    tag = client.get(path).headers["etag"]
    answer = client.get(path, headers={"If-None-Match": tag, "Prefer": "respond-async, wait=1"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (304, "wait=1")
    assert client.get(path, headers={"Prefer": "wait=0"}).status_code == 200


def test_a_task_that_is_deleted_meanwhile_is_not_there(client: TestClient, world: Any, later: Any, now: Any) -> None:
    task_id = world.add(TaskState.RUNNING)
    later(task_id, deleted_at=now)
    assert client.get(f"{TASKS}/{task_id}", headers=WAIT).status_code == 404


def test_nobody_waits_for_what_is_not_there(client: TestClient) -> None:
    assert client.get(f"{TASKS}/{uuid4()}", headers=WAIT).json()["code"] == "TASK_NOT_FOUND"


def test_a_server_that_stops_answers_who_waits(world: Any) -> None:
    task_id = world.add(TaskState.RUNNING)
    app = create_app(world.context)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = server(app)
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [listening]})
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}{TASKS}/{task_id}"
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(httpx.get, url, headers=WAIT, timeout=60)
            while task_id not in app.state.watcher._watches:
                time.sleep(0.01)
            serving.should_exit = True
            assert waiting.result(60).json()["status"] == "running"
        thread.join(60)
        assert not thread.is_alive()
