import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from app.domain.tasks import TaskState
from app.services import runs

Send = Callable[[str, bytes], None]
TASKS = "/api/v1/tasks"


@pytest.fixture
def create(client: TestClient) -> Callable[..., Any]:
    def post(**body: Any) -> Any:
        response = client.post(TASKS, json={"pipeline": "four", **body})
        assert response.status_code == 201, response.text
        return response.json()

    return post


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a whole problem document, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "instance", "code"} <= set(document)
    assert (document["status"], document["code"]) == (status, code)
    assert document["type"] == f"/docs/errors#{code}"
    return document


def finish(world: Any, task_id: UUID, now: datetime) -> None:
    with world.context.unit_of_work() as work:
        lease = runs.acquire(work, task_id, worker="w", now=now, lease_s=10)
        assert lease is not None
        key = f"tasks/{task_id}/out/1/hulls/1.png"
        (source := world.root / "a").write_bytes(b"picture")
        world.context.store.put(key, source)
        files = [{"name": "hulls/1.png", "media_type": "image/png", "title": "Hull 1", "key": key, "size": 7}]
        runs.finish(work, lease, document={"hulls": [], "crs": None}, artifacts=files, now=now)
        work.commit()


class TestCreating:
    def test_a_new_task_says_where_it_is_and_where_its_files_go(self, client: TestClient, world: Any) -> None:
        response = client.post(TASKS, json={"pipeline": "volume_change", "name": "Quarry", "options": {"cell": 2}})
        task = response.json()
        assert response.status_code == 201
        assert response.headers["location"] == f"http://volcal.test/api/v1/tasks/{task['id']}"
        assert (task["status"], task["name"], task["options"]["cell"]) == ("waiting", "Quarry", 2.0)
        assert task["missing"] == list(task["uploads"]) == ["pre", "post", "shp", "shx"]
        assert task["uploads"]["pre"]["url"].startswith("http://volcal.test/files/")
        where = response.headers["location"].replace("http://volcal.test", "")
        assert client.get(where).json() == task

    def test_without_a_body_it_is_a_volume_change(self, client: TestClient) -> None:
        assert client.post(TASKS).json()["pipeline"] == "volume_change"

    def test_a_pipeline_that_is_not_there_is_named_with_those_that_are(self, client: TestClient) -> None:
        found = problem(client.post(TASKS, json={"pipeline": "x"}), 404, "PIPELINE_NOT_FOUND")
        assert "volume_change" in found["detail"]

    def test_options_that_do_not_fit_are_named(self, client: TestClient) -> None:
        response = client.post(TASKS, json={"options": {"cell": -1, "speed": 9}})
        found = problem(response, 422, "OPTIONS_INVALID")
        assert [entry["field"] for entry in found["problems"]] == ["cell", "speed"]

    @pytest.mark.parametrize(
        "content",
        [
            b"{",
            b"[]",
            b'"x"',
            b"[" * 50_000,
            b'{"pipeline": 3}',
            b'{"name": "a\\u0000b"}',
            b'{"name": "\\ud800"}',
            b'{"\\ud800": 1}',
            b'{"options": {"\\ud800": 1}}',
            b'{"options": {"cell": "\\ud800"}}',
            b'{"options": {"cell": 1e999}}',
            b'{"options": {"cell": NaN}}',
            b'{"options": {"max_points": ' + b"9" * 5000 + b"}}",
            b'{"options": []}',
            b'{"inputs": {"pre": "file:///etc/passwd"}}',
            b'{"name": "' + b"x" * 201 + b'"}',
            b"\xff\xfe{}",
        ],
    )
    def test_a_body_that_makes_no_sense_is_refused_in_words(self, client: TestClient, content: bytes) -> None:
        response = client.post(TASKS, content=content, headers={"Content-Type": "application/json"})
        assert response.status_code in {400, 404, 422}, response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert response.content.isascii()


class TestLooking:
    def test_uploads_say_how_far_they_are(self, client: TestClient, create: Any) -> None:
        task = create()
        url = task["uploads"]["pre"]["url"].replace("http://volcal.test", "")
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": "0",
            "Upload-Length": "10",
            "Content-Type": "application/offset+octet-stream",
        }
        client.patch(url, content=b"abc", headers=headers)
        upload = client.get(f"{TASKS}/{task['id']}").json()["uploads"]["pre"]
        assert (upload["state"], upload["offset"], upload["size"]) == ("open", 3, None)
        client.patch(url, content=b"defghij", headers={**headers, "Upload-Offset": "3"})
        upload = client.get(f"{TASKS}/{task['id']}").json()["uploads"]["pre"]
        assert (upload["state"], upload["offset"], upload["size"], upload["url"]) == ("finished", 10, 10, None)

    def test_a_running_task_says_how_far_it_is(self, client: TestClient, world: Any, now: datetime) -> None:
        task_id = world.add()
        with world.context.unit_of_work() as work:
            lease = runs.acquire(work, task_id, worker="w", now=now, lease_s=10)
            runs.heartbeat(work, lease, progress=0.4, stage="comparing", now=now, lease_s=10)
            work.commit()
        task = client.get(f"{TASKS}/{task_id}").json()
        assert (task["status"], task["progress"], task["stage"]) == ("running", 0.4, "comparing")
        assert (task["attempts"], task["started_at"], task["queue_position"]) == (1, "2026-05-01T12:00:00Z", None)

    def test_a_queued_task_says_how_many_are_served_before(self, client: TestClient, world: Any, now: datetime) -> None:
        ids = [world.add(queued_at=now + timedelta(seconds=n)) for n in range(2)]
        assert [client.get(f"{TASKS}/{task_id}").json()["queue_position"] for task_id in ids] == [1, 2]

    def test_a_list_can_be_narrowed_and_paged(self, client: TestClient, world: Any, now: datetime) -> None:
        ids = [str(world.add(created_at=now + timedelta(seconds=n))) for n in range(5)]
        world.add(TaskState.DONE, created_at=now)
        first = client.get(TASKS, params={"status": "pending", "limit": 3}).json()
        rest = client.get(TASKS, params={"status": "pending", "limit": 3, "cursor": first["next"]}).json()
        assert [task["id"] for task in first["tasks"] + rest["tasks"]] == ids[::-1]
        assert rest["next"] is None
        assert client.get(TASKS, params={"pipeline": "four"}).json()["tasks"] == []

    def test_a_page_that_is_exactly_full_is_the_last(self, client: TestClient, world: Any) -> None:
        world.add()
        assert client.get(TASKS, params={"limit": 1}).json()["next"] is None

    @pytest.mark.parametrize("cursor", ["x", "", "é", "MjAyNg==", "MjAyNi0wNS0wMXx4", "=" * 5000])
    def test_a_cursor_that_no_page_gave_is_refused(self, client: TestClient, cursor: str) -> None:
        problem(client.get(TASKS, params={"cursor": cursor}), 422, "CURSOR_INVALID")

    @pytest.mark.parametrize(
        ("params", "code"),
        [
            ({"limit": 0}, "REQUEST_INVALID"),
            ({"limit": "9" * 400}, "REQUEST_INVALID"),
            ({"status": "dead"}, "REQUEST_INVALID"),
            ({"pipeline": "\x00"}, "PIPELINE_NOT_FOUND"),
        ],
    )
    def test_a_list_asked_for_wrongly_is_refused(self, client: TestClient, params: Any, code: str) -> None:
        response = client.get(TASKS, params=params)
        problem(response, response.status_code, code)
        assert response.status_code in {404, 422}

    @pytest.mark.parametrize(
        "step",
        [
            "GET ",
            "DELETE ",
            "POST /start",
            "POST /cancel",
            "POST /restart",
            "POST /uploads/pre",
            "GET /results",
            "GET /artifacts",
            "GET /artifacts/overview.png",
        ],
    )
    def test_every_route_says_so_if_the_task_is_not_there(self, client: TestClient, step: str) -> None:
        method, _, path = step.partition(" ")
        problem(client.request(method, f"{TASKS}/{uuid4()}{path}"), 404, "TASK_NOT_FOUND")
        problem(client.request(method, f"{TASKS}/nonsense{path}"), 422, "REQUEST_INVALID")


class TestSteps:
    def test_a_fresh_upload_comes_with_its_file_name(self, client: TestClient, create: Any, send: Send) -> None:
        task = create()
        response = client.post(f"{TASKS}/{task['id']}/uploads/pre", json={"filename": "../a.laz"})
        assert response.status_code == 201
        assert response.json()["label"] == "pre"
        send(response.json()["url"], b"x")
        upload = client.get(f"{TASKS}/{task['id']}").json()["uploads"]["pre"]
        assert (upload["state"], upload["filename"]) == ("finished", "a.laz")

    def test_the_old_url_of_a_replaced_file_takes_no_more(self, client: TestClient, create: Any) -> None:
        task = create()
        client.post(f"{TASKS}/{task['id']}/uploads/pre")
        old = task["uploads"]["pre"]["url"].replace("http://volcal.test", "")
        assert client.head(old, headers={"Tus-Resumable": "1.0.0"}).status_code in {404, 410}

    @pytest.mark.parametrize("label", ["status", "__class__", "%00", "%ED%A0%80", "x" * 3000])
    def test_a_label_that_is_not_there_is_refused(self, client: TestClient, create: Any, label: str) -> None:
        problem(client.post(f"{TASKS}/{create()['id']}/uploads/{label}"), 422, "LABEL_UNKNOWN")

    def test_a_queued_task_takes_no_files(self, client: TestClient, world: Any) -> None:
        problem(client.post(f"{TASKS}/{world.add()}/uploads/file"), 409, "UPLOAD_CLOSED")

    def test_starting_too_early_lists_what_is_missing(self, client: TestClient, create: Any) -> None:
        found = problem(client.post(f"{TASKS}/{create()['id']}/start"), 409, "INPUTS_MISSING")
        assert found["missing"] == ["pre", "post", "shp", "shx"]

    def test_a_complete_task_starts_by_itself(self, client: TestClient, create: Any, send: Send, world: Any) -> None:
        task = create()
        for upload in task["uploads"].values():
            send(upload["url"], b"x")
        assert client.get(f"{TASKS}/{task['id']}").json()["status"] == "pending"
        assert client.post(f"{TASKS}/{task['id']}/start").status_code == 202
        assert world.queue.submitted == [UUID(task["id"])]

    def test_cancelling_a_run_is_a_promise_that_may_be_asked_for_twice(self, client: TestClient, world: Any) -> None:
        task_id = world.add(TaskState.RUNNING)
        for _ in range(2):
            response = client.post(f"{TASKS}/{task_id}/cancel")
            assert (response.status_code, response.json()["status"]) == (202, "running")
            assert response.json()["cancelling"] is True

    def test_cancelling_what_waits_ends_it_at_once(self, client: TestClient, create: Any) -> None:
        task = create()
        answer = client.post(f"{TASKS}/{task['id']}/cancel")
        assert (answer.status_code, answer.json()["status"], answer.json()["error"]["code"]) == (
            202,
            "killed",
            "CANCELLED",
        )
        problem(client.post(f"{TASKS}/{task['id']}/cancel"), 409, "ILLEGAL_TRANSITION")

    def test_restarting_takes_other_options(self, client: TestClient, create: Any, send: Send) -> None:
        task = create()
        for upload in task["uploads"].values():
            send(upload["url"], b"x")
        url = f"{TASKS}/{task['id']}"
        problem(client.post(f"{url}/restart"), 409, "ILLEGAL_TRANSITION")
        client.post(f"{url}/cancel")
        answer = client.post(f"{url}/restart", json={"options": {"seconds": 1}})
        assert (answer.status_code, answer.json()["status"]) == (202, "pending")
        assert answer.json()["options"]["seconds"] == 1.0

    def test_a_deleted_task_is_gone(self, client: TestClient, create: Any) -> None:
        url = f"{TASKS}/{create()['id']}"
        response = client.delete(url)
        assert (response.status_code, response.content) == (204, b"")
        problem(client.get(url), 404, "TASK_NOT_FOUND")
        problem(client.delete(url), 404, "TASK_NOT_FOUND")


class TestResults:
    def test_results_are_the_document_as_the_run_wrote_it(self, client: TestClient, world: Any, now: datetime) -> None:
        finish(world, task_id := world.add(), now)
        response = client.get(f"{TASKS}/{task_id}/results")
        assert (response.status_code, response.json()) == (200, {"hulls": [], "crs": None})

    def test_files_come_with_links_that_need_no_headers(self, client: TestClient, world: Any, now: datetime) -> None:
        finish(world, task_id := world.add(), now)
        (found,) = client.get(f"{TASKS}/{task_id}/artifacts").json()["artifacts"]
        assert {key: found[key] for key in ("name", "media_type", "title", "size")} == {
            "name": "hulls/1.png",
            "media_type": "image/png",
            "title": "Hull 1",
            "size": 7,
        }
        assert client.get(found["url"].replace("http://volcal.test", "")).content == b"picture"
        redirect = client.get(f"{TASKS}/{task_id}/artifacts/hulls/1.png")
        assert redirect.status_code == 307
        assert client.get(redirect.headers["location"].replace("http://volcal.test", "")).content == b"picture"

    @pytest.mark.parametrize("name", ["x", "hulls/2.png", "../in/pre", "%2e%2e/in/pre", "%00"])
    def test_only_files_of_the_result_are_given_out(
        self, client: TestClient, world: Any, now: datetime, name: str
    ) -> None:
        finish(world, task_id := world.add(), now)
        response = client.get(f"{TASKS}/{task_id}/artifacts/{name}")
        assert response.status_code in {404, 405}

    @pytest.mark.parametrize("path", ["results", "artifacts", "artifacts/overview.png"])
    def test_before_the_end_there_is_nothing(self, client: TestClient, world: Any, path: str) -> None:
        problem(client.get(f"{TASKS}/{world.add()}/{path}"), 409, "NOT_READY")


def test_pipelines_show_their_inputs_and_the_schema_of_their_options(client: TestClient) -> None:
    found = {entry["name"]: entry for entry in client.get("/api/v1/pipelines").json()["pipelines"]}
    assert set(found) == {"constant", "four", "volume_change"}
    volume = client.get("/api/v1/pipelines/volume_change").json()
    assert volume == found["volume_change"]
    assert [slot["label"] for slot in volume["inputs"] if slot["required"]] == ["pre", "post", "shp", "shx"]
    assert volume["options"]["properties"]["min_score"]["maximum"] == 1
    problem(client.get("/api/v1/pipelines/x"), 404, "PIPELINE_NOT_FOUND")
    assert json.dumps(volume["options"])
