"""Tasks as jobs: what is said of them, how they are found, what they leave, and how they go."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.parser import BytesParser
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from app.db.models import OgcOrder
from app.domain.tasks import TaskState
from app.main import create_app
from app.outbound import AllowList, GuardedClient
from app.services import callbacks, runs
from app.services.ogc.jobs import Filter, list_jobs
from tests.app.api.ogc.standard import EXCEPTIONS, check
from tests.app.conftest import NOW, World
from tests.receivers import Receiver

REL = "http://www.opengis.net/def/rel/ogc/1.0"
FILES = {
    "hulls.geojson": ("application/geo+json", b'{"type": "FeatureCollection", "features": []}'),
    "difference.tif": ("image/tiff; application=geotiff; profile=cloud-optimized", b"II*\0 not much"),
    "report.html": ("text/html", "<p>Größe</p>".encode()),
}
DOCUMENT = {"schema": "volcal/volume_change/1", "totals": {"net_volume": 68.3}}


def finished(world: World, **order: Any) -> UUID:
    """A task that is done, and perhaps how its answer is wanted."""
    artifacts = []
    for name, (kind, content) in FILES.items():
        key = f"tasks/{uuid4()}/out/1/{name}"
        (source := world.root / uuid4().hex).write_bytes(content)
        world.context.store.put(key, source)
        artifacts.append({"name": name, "media_type": kind, "title": name, "key": key, "size": len(content)})
    task_id = world.add(
        TaskState.DONE,
        pipeline="volume_change",
        document=DOCUMENT,
        artifacts=artifacts,
        started_at=NOW,
        finished_at=NOW + timedelta(seconds=90),
    )
    if order:
        with world.context.unit_of_work() as work:
            work.session.add(OgcOrder(**{"task_id": task_id, "response": "raw", "subscriber": {}, **order}))
            work.commit()
    return task_id


STATES = [
    (TaskState.WAITING, {}, "accepted", "Waiting for files: file."),
    (TaskState.PENDING, {"queued_at": NOW}, "accepted", "Queued."),
    (TaskState.RUNNING, {"started_at": NOW, "stage": "comparing", "progress": 0.42}, "running", "comparing"),
    (TaskState.RUNNING, {"started_at": NOW, "cancel_requested": True}, "dismissed", "The job is being dismissed."),
    (TaskState.DONE, {"document": {}, "finished_at": NOW, "progress": 1.0}, "successful", "Done."),
    (TaskState.ERROR, {"error": {"code": "X", "message": "It broke.", "remedy": "Mend."}}, "failed", "It broke. Mend."),
    (TaskState.KILLED, {"error": {"code": "LOST", "message": "Lost."}}, "dismissed", "Lost."),
]  # fmt: skip


@pytest.mark.parametrize(("state", "values", "status", "message"), STATES)
def test_each_state_of_a_task_is_one_of_a_job(
    client: TestClient, world: World, state: TaskState, values: dict[str, Any], status: str, message: str
) -> None:
    job = client.get(f"/ogc/jobs/{world.add(state, **values)}").json()
    check(job, "statusInfo")
    assert (job["processID"], job["type"], job["status"], job["message"]) == ("constant", "process", status, message)
    assert job["progress"] == {"running": 42, "successful": 100}.get(status, 0)
    assert job["created"] == job["updated"] == NOW.isoformat()
    assert (f"{REL}/results" in {link["rel"] for link in job["links"]}) == (status == "successful")


@pytest.mark.parametrize("job", ["00000000-0000-4000-8000-000000000000", "not-an-id"])
@pytest.mark.parametrize("more", ["", "/results", "/results/results"])
def test_a_job_that_is_not_there_is_told_in_the_words_of_the_standard(client: TestClient, job: str, more: str) -> None:
    answer = client.get(f"/ogc/jobs/{job}{more}")
    check(answer.json(), "exception")
    assert (answer.status_code, answer.json()["type"]) == (404, f"{EXCEPTIONS}/no-such-job")


@pytest.mark.parametrize("more", ["", "/totals"])
def test_results_that_are_not_there_yet_are_told_in_the_words_of_the_standard(
    client: TestClient, world: World, more: str
) -> None:
    answer = client.get(f"/ogc/jobs/{world.add(TaskState.RUNNING)}/results{more}")
    check(answer.json(), "exception")
    assert (answer.status_code, answer.json()["type"]) == (404, f"{EXCEPTIONS}/result-not-ready")


@pytest.mark.parametrize(
    ("state", "code", "status"),
    [
        (TaskState.ERROR, "INPUT_INVALID", 400),
        (TaskState.ERROR, "OUT_OF_MEMORY", 500),
        (TaskState.KILLED, "CANCELLED", 410),
        (TaskState.KILLED, "LOST", 500),
    ],
)
def test_the_status_of_a_result_that_never_came_says_whose_fault_it_is(
    client: TestClient, world: World, state: TaskState, code: str, status: int
) -> None:
    error = {"code": code, "message": "No.", "label": "pre", "remedy": "Try."}
    answer = client.get(f"/ogc/jobs/{world.add(state, error=error)}/results")
    check(answer.json(), "exception")
    assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (status, code, "No.")


def test_a_document_holds_each_output_as_it_was_wanted(client: TestClient, world: World) -> None:
    wanted = {"results": "reference", "totals": "value", "hulls": "value", "difference": "value", "report": "value"}
    job = finished(world, response="document", outputs=wanted)
    said = client.get(f"/ogc/jobs/{job}/results").json()
    check(said, "results")
    assert said["results"]["href"] == f"http://volcal.test/ogc/jobs/{job}/results/results"
    assert said["totals"] == {"value": {"net_volume": 68.3}, "mediaType": "application/json"}
    assert said["hulls"]["value"]["type"] == "FeatureCollection"
    assert base64.b64decode(said["difference"]["value"]) == FILES["difference.tif"][1]
    assert said["report"] == {"value": "<p>Größe</p>", "mediaType": "text/html"}
    assert client.get(f"/ogc/jobs/{job}/results/results").json() == DOCUMENT


def test_a_large_file_is_told_by_a_link_even_in_a_document(
    client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.ogc.results.LARGEST_INLINE", 20)
    job = finished(world, response="document", outputs={"difference": "value", "hulls": "value"})
    said = client.get(f"/ogc/jobs/{job}/results").json()
    check(said, "results")
    assert set(said["hulls"]) == {"href", "type", "title"}
    assert client.get(said["hulls"]["href"].removeprefix("http://volcal.test")).content == FILES["hulls.geojson"][1]
    assert "value" in said["difference"]


def test_one_raw_output_is_the_file_itself(client: TestClient, world: World) -> None:
    answer = client.get(f"/ogc/jobs/{finished(world, outputs={'difference': 'value'})}/results")
    assert answer.content == FILES["difference.tif"][1]
    assert answer.headers["content-type"] == FILES["difference.tif"][0]
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_a_file_that_is_gone_is_told_by_the_status(client: TestClient, world: World) -> None:
    job = finished(world, outputs={"difference": "value"})
    (path,) = world.root.glob("objects/tasks/*/out/1/difference.tif")
    path.unlink()
    answer = client.get(f"/ogc/jobs/{job}/results")
    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL")
    check(answer.json(), "exception")


def test_raw_outputs_by_reference_are_links_and_no_body(client: TestClient, world: World) -> None:
    answer = client.get(f"/ogc/jobs/{finished(world, outputs={'hulls': 'reference', 'totals': 'reference'})}/results")
    assert (answer.status_code, answer.content) == (204, b"")
    found = answer.headers.get_list("link")
    assert {'rel=hulls; type="application/geo+json"', 'rel=totals; type="application/json"'} == {
        ";".join(link.split(";")[1:3]).strip() for link in found
    }
    for link in found:
        assert client.get(link[1:].partition(">")[0].removeprefix("http://volcal.test")).status_code == 200


def test_several_raw_outputs_are_the_parts_of_one_body(client: TestClient, world: World) -> None:
    job = finished(world, outputs={"totals": "value", "hulls": "reference", "difference": "value"})
    answer = client.get(f"/ogc/jobs/{job}/results")
    kind = answer.headers["content-type"]
    assert kind.startswith("multipart/related; ")
    parts = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + answer.content).get_payload()
    by_name = {part["Content-ID"]: part for part in parts}
    assert list(by_name) == ["totals", "hulls", "difference"]
    assert json.loads(by_name["totals"].get_payload()) == DOCUMENT["totals"]
    assert by_name["difference"].get_payload(decode=True).rstrip(b"\r\n") == FILES["difference.tif"][1]
    assert by_name["hulls"].get_payload().strip() == ""
    assert by_name["hulls"]["Content-Location"].startswith("http://volcal.test/objects/")


def test_an_output_that_the_run_left_out_is_absent_and_by_itself_not_found(client: TestClient, world: World) -> None:
    job = finished(world, response="document", outputs={"overview": "value", "totals": "value"})
    assert set(client.get(f"/ogc/jobs/{job}/results").json()) == {"totals"}
    answer = client.get(f"/ogc/jobs/{job}/results/overview")
    check(answer.json(), "exception")
    assert (answer.status_code, answer.json()["code"]) == (404, "OUTPUT_NOT_FOUND")
    alone = finished(world, outputs={"overview": "value"})
    assert client.get(f"/ogc/jobs/{alone}/results").json()["code"] == "OUTPUT_NOT_FOUND"


def test_the_results_of_a_task_that_came_another_way_are_a_document_of_links(client: TestClient, world: World) -> None:
    said = client.get(f"/ogc/jobs/{finished(world)}/results").json()
    check(said, "results")
    assert set(said) == {"results", "totals", "hulls", "difference", "report"}
    assert all("href" in each for each in said.values())


def test_a_job_that_waits_or_runs_is_stopped_and_one_that_is_over_is_deleted(client: TestClient, world: World) -> None:
    for task_id in (world.add(TaskState.PENDING), world.add(TaskState.RUNNING)):
        said = client.delete(f"/ogc/jobs/{task_id}")
        check(said.json(), "statusInfo")
        assert (said.status_code, said.json()["status"]) == (200, "dismissed")
        assert client.get(f"/ogc/jobs/{task_id}").json()["status"] == "dismissed"
    job = finished(world)
    said = client.delete(f"/ogc/jobs/{job}")
    check(said.json(), "statusInfo")
    assert (said.status_code, said.json()["status"]) == (200, "dismissed")
    assert client.get(f"/ogc/jobs/{job}").status_code == client.delete(f"/ogc/jobs/{job}").status_code == 404


def test_jobs_come_a_page_at_a_time_newest_first(client: TestClient, world: World) -> None:
    made = [str(world.add(created_at=NOW + timedelta(seconds=n))) for n in range(5)]
    world.add(pipeline="four")
    seen: list[str] = []
    path = "/ogc/jobs?limit=2&processID=constant&status=accepted,running"
    while path:
        page = client.get(path).json()
        check(page, "jobList")
        assert len(page["jobs"]) <= 2
        seen += [job["jobID"] for job in page["jobs"]]
        path = {link["rel"]: link["href"] for link in page["links"]}.get("next", "").removeprefix("http://volcal.test")
    assert seen == made[::-1]


EVERYTHING = {"old", "new", "running", "stopping"}
LISTS = {
    "": EVERYTHING,
    "status=successful": {"old", "new"},
    "status=successful&status=running": {"old", "new", "running"},
    "status=dismissed": {"stopping"},
    "status=sleeping": set(),
    "processID=four,volume_change": {"old"},
    "type=process": {"new"},
    "type=provider": set(),
    "datetime=2026-05-01T12:00:00Z/..": EVERYTHING - {"old"},
    "datetime=../2026-05-01T11:59:59Z": {"old"},
    "datetime=2026-05-01T12:00:00Z": EVERYTHING - {"old"},
    "minDuration=60": EVERYTHING - {"new"},
    "minDuration=60&maxDuration=3600": {"old"},
    "maxDuration=59.5": {"new"},
}


def test_a_list_holds_what_was_asked_for(any_world: World) -> None:
    earlier, ran = datetime.now(UTC) - timedelta(hours=2), {"started_at": NOW, "document": {}}
    at = {"old": NOW + timedelta(seconds=60), "new": NOW + timedelta(seconds=59.25)}
    names = {
        "old": any_world.add(
            TaskState.DONE, created_at=NOW - timedelta(hours=1), pipeline="four", finished_at=at["old"], **ran
        ),
        "new": any_world.add(TaskState.DONE, finished_at=at["new"], **ran),
        "running": any_world.add(TaskState.RUNNING, started_at=earlier),
        "stopping": any_world.add(TaskState.RUNNING, started_at=earlier, cancel_requested=True),
    }
    any_world.add(TaskState.WAITING, created_at=NOW - timedelta(days=9), deleted_at=NOW)
    with any_world.context.unit_of_work() as work:
        work.session.add(OgcOrder(task_id=names["new"], response="raw", outputs={}, subscriber={}))
        work.commit()
    client = TestClient(create_app(any_world.context))
    found = {}
    for query in LISTS:
        answer = client.get(f"/ogc/jobs?{query}").json()
        check(answer, "jobList")
        ids = {job["jobID"] for job in answer["jobs"]}
        found[query] = {name for name, task_id in names.items() if str(task_id) in ids}
        assert len(ids) == len(found[query])
    assert found == LISTS


@pytest.mark.parametrize(
    "query", ["datetime=yesterday", "datetime=2026-05-01T12:00:00", "limit=0", "minDuration=-1", "cursor=x"]
)
def test_a_query_that_makes_no_sense_is_refused(client: TestClient, query: str) -> None:
    answer = client.get(f"/ogc/jobs?{query}")
    check(answer.json(), "exception")
    assert (answer.status_code, answer.json()["status"]) == (400, 400)


@pytest.fixture
def told(world: World) -> World:
    """A world whose tasks may have receivers on loopback."""
    policy = replace(world.context.policy, callback_secret="known to receivers", public_url="http://volcal.test")
    return replace(world, context=replace(world.context, web=GuardedClient(AllowList(["127.0.0.1"])), policy=policy))


def deliver(world: World) -> None:
    now = datetime.now(UTC)
    for delivery, _ in callbacks.due(world.context, now, limit=10):
        callbacks.deliver(world.context, delivery, now)


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_subscribers_are_told_when_a_job_begins_and_ends(told: World, ends: str) -> None:
    client, now = TestClient(create_app(told.context)), datetime.now(UTC)
    with Receiver() as receiver:
        names = ("successUri", "inProgressUri", "failedUri")
        body = {
            "inputs": {"file": base64.b64encode(b"abc").decode()},
            "outputs": {"results": {}},
            "subscriber": {name: f"{receiver.url}/{name}" for name in names},
        }
        job = client.post("/ogc/processes/constant/execution", json=body, headers={"Prefer": "respond-async"}).json()
        with told.context.unit_of_work() as work:
            lease = runs.acquire(work, UUID(job["jobID"]), worker="w", now=now, lease_s=60)
            work.commit()
        assert lease is not None
        deliver(told)
        with told.context.unit_of_work() as work:
            if ends == "well":
                runs.finish(work, lease, document={"answer": 42}, artifacts=[], now=now)
            else:
                runs.fail(work, lease, error={"code": "INTERNAL", "message": "It broke."}, now=now)
            work.commit()
        deliver(told)
    begun, ended = receiver.requests
    assert begun.line.split()[1] == "/inProgressUri"
    check(json.loads(begun.body), "statusInfo")
    assert json.loads(begun.body)["status"] == "running"
    assert begun.headers["x-volcal-signature"].startswith("v1=")
    said = json.loads(ended.body)
    if ends == "badly":
        check(said, "statusInfo")
        assert (ended.line.split()[1], said["status"], said["message"]) == ("/failedUri", "failed", "It broke.")
    else:
        check(said, "results")
        assert ended.line.split()[1] == "/successUri"
        assert client.get(said["results"]["href"].removeprefix("http://volcal.test")).json() == {"answer": 42}
    shown = client.get(f"/api/v1/tasks/{job['jobID']}/deliveries").json()["deliveries"]
    assert [each["state"] for each in shown] == ["delivered", "delivered"]
    assert receiver.authority not in json.dumps(shown)


def test_a_job_without_subscribers_tells_nobody(told: World) -> None:
    task_id = told.add(TaskState.PENDING)
    with told.context.unit_of_work() as work:
        assert runs.acquire(work, task_id, worker="w", now=NOW, lease_s=60) is not None
        work.commit()
    assert callbacks.due(told.context, datetime.now(UTC), limit=10) == []


def test_others_jobs_are_in_no_list(world: World) -> None:
    world.add(owner="alice")
    with world.context.unit_of_work(read_only=True) as work:
        work.owner = "bob"
        assert list_jobs(work, Filter()) == []
