import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from app.domain.failures import cancelled
from app.domain.tasks import TaskState
from app.services import janitor, runs

UNKNOWN = "4d36e96e-e325-41ce-bfc1-08002be10318"
Send = Callable[[str, bytes], None]
HULL = {
    "id": "1",
    "score": 0.97,
    "area": 312.4,
    "cut_volume": 12.1,
    "fill_volume": 80.4,
    "net_volume": 68.3,
    "net_volume_ci95": [61.0, 75.6],
    "kind": "ground",
    "image": "hulls/1.png",
}
DOCUMENT = {"schema": "volcal/volume_change/1", "crs": None, "hulls": [HULL], "totals": {"net_volume": 68.3}}
FLOATS = ("score", "area", "cut_volume", "fill_volume", "net_volume")


def finish(world: Any, task_id: UUID, document: dict[str, Any], names: tuple[str, ...]) -> None:
    """Do what a worker does."""
    now = world.task(task_id).queued_at
    artifacts = []
    with world.context.unit_of_work() as work:
        lease = runs.acquire(work, task_id, worker="w", now=now, lease_s=10)
        assert lease is not None
        for name in names:
            (source := world.root / "artifact").write_bytes(b"picture of " + name.encode())
            key = f"tasks/{task_id}/out/{lease.fence}/{name}"
            world.context.store.put(key, source)
            artifacts.append({"name": name, "media_type": "image/png", "title": name, "key": key, "size": 9})
        assert runs.finish(work, lease, document=document, artifacts=artifacts, now=now)
        work.commit()


@pytest.fixture
def created(client: TestClient) -> dict[str, Any]:
    response = client.post("/create_task")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


@pytest.fixture
def started(created: dict[str, Any], send: Send, good_files: dict[str, bytes]) -> UUID:
    for label, content in good_files.items():
        send(created["upload_urls"][label], content)
    return UUID(created["id"])


@pytest.fixture
def query(client: TestClient) -> Callable[[UUID], dict[str, Any]]:
    def ask(task_id: UUID) -> dict[str, Any]:
        response = client.get(f"/query_task/{task_id}")
        assert response.status_code == 200
        return json.loads(response.text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    return ask


class TestCreate:
    def test_a_task_has_both_names_of_its_id_and_four_urls(self, created: dict[str, Any]) -> None:
        assert set(created) == {"id", "task_id", "upload_urls"}
        assert created["id"] == created["task_id"] == str(UUID(created["id"]))
        assert list(created["upload_urls"]) == ["pre", "post", "shp", "shx"]

    def test_links_are_made_from_the_public_url_whatever_the_request_says(self, client: TestClient) -> None:
        spoofed = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "gopher"}
        urls = client.post("/create_task", headers=spoofed).json()["upload_urls"].values()
        assert all(url.startswith("http://volcal.test/files/") for url in urls)

    @pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"\x00" * 1000])
    def test_a_body_is_not_asked_for_and_does_no_harm(self, client: TestClient, content: bytes) -> None:
        assert client.post("/create_task", content=content).status_code == 200


class TestStart:
    def test_missing_files_are_listed_bare(self, client: TestClient, created: dict[str, Any], send: Send) -> None:
        send(created["upload_urls"]["post"], b"1 2 3\n4 5 6\n7 8 9\n" * 30)
        response = client.post(f"/start_task/{created['id']}")
        assert (response.status_code, response.json()) == (400, {"missing": ["pre", "shp", "shx"]})

    def test_a_task_starts_by_itself_and_starting_it_by_hand_is_fine(
        self, client: TestClient, started: UUID, world: Any
    ) -> None:
        for _ in range(2):
            response = client.post(f"/start_task/{started}")
            assert (response.status_code, response.json()) == (200, {"started": True})
        assert world.queue.submitted == [started]

    def test_a_done_task_answers_409(self, client: TestClient, started: UUID, world: Any) -> None:
        finish(world, started, DOCUMENT, ())
        response = client.post(f"/start_task/{started}")
        assert response.status_code == 409
        assert response.json() == {"detail": "A task that is done cannot become pending."}

    def test_a_killed_task_runs_again(self, client: TestClient, started: UUID, world: Any) -> None:
        client.post(f"/api/v1/tasks/{started}/cancel")
        assert client.post(f"/start_task/{started}").json() == {"started": True}
        assert world.queue.submitted == [started, started]

    @pytest.mark.parametrize("route", ["POST /start_task", "GET /query_task"])
    @pytest.mark.parametrize("task_id", [UNKNOWN, "nonsense", "0", "%00", "%F0%9F%92%A9", "x" * 5000, "..%2f.."])
    def test_a_task_that_is_not_there_is_404_however_its_id_looks(
        self, client: TestClient, route: str, task_id: str
    ) -> None:
        method, path = route.split()
        response = client.request(method, f"{path}/{task_id}")
        assert response.status_code == 404
        if "%2f" not in task_id:
            assert response.json() == {"detail": "Task not found"}


class TestQuery:
    def test_a_waiting_task_says_what_is_missing(self, created: dict[str, Any], query: Any, send: Send) -> None:
        assert query(created["id"]) == {
            "status": "waiting",
            "missing": ["pre", "post", "shp", "shx"],
            "results": None,
            "error": None,
        }

    def test_a_task_on_its_way_has_no_results_yet(self, started: UUID, query: Any, world: Any) -> None:
        assert query(started) == {"status": "pending", "missing": [], "results": None, "error": None}
        with world.context.unit_of_work() as work:
            runs.acquire(work, started, worker="w", now=world.task(started).queued_at, lease_s=10)
            work.commit()
        assert query(started) == {"status": "running", "missing": [], "results": None, "error": None}

    def test_a_done_task_has_hulls_as_the_phone_reads_them(
        self, started: UUID, query: Any, world: Any, client: TestClient
    ) -> None:
        finish(world, started, DOCUMENT, ("overview.png", "hulls/1.png"))
        answer = query(started)
        assert (answer["status"], answer["missing"], answer["error"]) == ("done", [], None)
        (hull,) = answer["results"]["hulls"]
        assert hull["id"] == f"{started}_1"
        assert {name: hull[name] for name in FLOATS} == {name: HULL[name] for name in FLOATS}
        assert hull["net_volume_ci95"] == [61.0, 75.6]
        assert hull["image_key"] == f"tasks/{started}/out/1/hulls/1.png"
        assert hull["image_url"].startswith("http://volcal.test/objects/")
        picture = client.get(hull["image_url"].replace("http://volcal.test", ""), headers={})
        assert (picture.status_code, picture.content) == (200, b"picture of hulls/1.png")

    def test_everything_else_of_the_result_document_is_there_too(self, started: UUID, query: Any, world: Any) -> None:
        finish(world, started, DOCUMENT, ("overview.png", "hulls/1.png"))
        results = query(started)["results"]
        assert results["totals"] == {"net_volume": 68.3}
        assert results["schema"] == "volcal/volume_change/1"
        assert set(results["files"]) == {"overview.png"}

    def test_links_are_made_afresh_at_each_query(
        self, started: UUID, query: Any, world: Any, client: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        finish(world, started, DOCUMENT, ("hulls/1.png",))
        first = query(started)["results"]["hulls"][0]["image_url"].replace("http://volcal.test", "")
        import time

        later = time.time() + world.context.policy.link_ttl_s + 2
        monkeypatch.setattr("time.time", lambda: later)
        assert client.get(first).status_code == 403
        second = query(started)["results"]["hulls"][0]["image_url"].replace("http://volcal.test", "")
        assert client.get(second).status_code == 200

    def test_no_member_of_a_hull_is_ever_null_or_not_a_number(self, started: UUID, query: Any, world: Any) -> None:
        bare = {"id": "7", "score": None, "mean_change": None, "image": None, "kind": "ground"}
        finish(world, started, {"hulls": [bare]}, ())
        (hull,) = query(started)["results"]["hulls"]
        assert None not in hull.values()
        assert {name: hull[name] for name in FLOATS} == dict.fromkeys(FLOATS, 0.0)
        assert (hull["image_key"], hull["image_url"]) == ("", "")

    def test_a_hull_that_was_not_drawn_shows_the_overview(self, started: UUID, query: Any, world: Any) -> None:
        finish(world, started, {"hulls": [{**HULL, "image": None}]}, ("overview.png",))
        assert query(started)["results"]["hulls"][0]["image_key"].endswith("/overview.png")

    def test_no_change_is_done_with_no_hulls(self, started: UUID, query: Any, world: Any) -> None:
        finish(world, started, {"hulls": []}, ())
        answer = query(started)
        assert (answer["status"], answer["results"]["hulls"]) == ("done", [])

    def test_a_bad_file_is_an_error_at_once_with_a_reason_and_a_remedy(
        self, created: dict[str, Any], query: Any, send: Send, client: TestClient, good_files: dict[str, bytes]
    ) -> None:
        send(created["upload_urls"]["pre"], b"\x89PNG\r\n\x1a\n" + bytes(100))
        answer = query(created["id"])
        error = answer["results"]["error"]
        assert (answer["status"], answer["results"]["hulls"]) == ("error", [])
        assert (error["code"], error["label"]) == ("INPUT_INVALID", "pre")
        assert answer["error"] == f"{error['message']} {error['remedy']}"
        assert answer["missing"] == ["pre", "post", "shp", "shx"]
        fresh = error["details"]["fresh_upload"]
        path = fresh["url"].replace("http://volcal.test", "")
        url = client.request(fresh["method"], path).json()["url"]
        assert query(created["id"])["status"] == "waiting"
        send(url, good_files["pre"])
        for label in ("post", "shp", "shx"):
            send(created["upload_urls"][label], good_files[label])
        assert query(created["id"])["status"] == "pending"

    def test_a_killed_task_is_killed_and_says_why(self, started: UUID, query: Any, client: TestClient) -> None:
        client.post(f"/api/v1/tasks/{started}/cancel")
        answer = query(started)
        assert (answer["status"], answer["results"]) == ("killed", {"hulls": [], "error": cancelled()})
        assert answer["error"].startswith("The task was cancelled.")

    def test_an_expired_task_still_answers(self, created: dict[str, Any], query: Any, world: Any) -> None:
        later = world.task(UUID(created["id"])).created_at + timedelta(days=2)
        janitor.reap(world.context, later)
        answer = query(created["id"])
        assert (answer["status"], answer["results"]["error"]["code"]) == ("killed", "EXPIRED")

    @pytest.mark.parametrize("state", [TaskState.ERROR, TaskState.KILLED])
    def test_results_are_an_object_even_if_the_reason_is_unknown(
        self, world: Any, query: Any, state: TaskState
    ) -> None:
        answer = query(world.add(state))
        assert answer["results"]["hulls"] == []
        assert isinstance(answer["error"], str)
