"""What tusd says is a hint: lost, late, repeated, out of order, by four at once or forged, a task starts exactly once.

tusd asks before it opens uploads, and says nothing of its own here: the tests speak for it, with its recorded words.
"""

import json
import random
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis as redis_client

from app.uploads.tusd import GRANT, TusdUploads
from tests.pipeline.formats.files import las_bytes, stable_bytes, terrain
from tests.servers.base import wait_for
from tests.servers.redis import Redis
from tests.servers.stack import HOOK_SECRET, FullStack, send

pytestmark = pytest.mark.service

RECORDED = Path(__file__).parents[1] / "data" / "tusd_hooks"
SCENARIOS = {
    "pre": "s3_deferred",
    "post": "s3_resumed_broken_conn",
    "shp": "s3_zero_deferred",
    "shx": "s3_deferred_length_late",
}
FILES = {
    "pre": las_bytes(terrain(2000, 1)),
    "post": las_bytes(terrain(2000, 2)),
    **dict(zip(("shp", "shx"), stable_bytes(), strict=True)),
}


@pytest.fixture(scope="module")
def stack() -> Iterator[FullStack]:
    """No worker, and a reaper that does nothing for now: the messages can be counted."""
    quiet = {"VOLCAL_REAP_INTERVAL_S": "3600", "VOLCAL_REDISPATCH_S": "3600"}
    with FullStack(workers=0, events="pre-create", **quiet) as stack:
        yield stack


class Filled:
    """A task all of whose bytes have arrived, of which nobody has heard."""

    def __init__(self, stack: FullStack, labels: tuple[str, ...] = tuple(FILES)) -> None:
        self._stack = stack
        created = httpx.post(f"{stack.url}/create_task", timeout=30).json()
        self.id: str = created["id"]
        self.urls: dict[str, str] = created["upload_urls"]
        for label in labels:
            assert send(self.urls[label], FILES[label]).status_code == 204

    @property
    def state(self) -> str:
        return str(self._stack.task(self.id)["status"])

    def handle(self, label: str) -> str:
        return urlsplit(self.urls[label]).path.removeprefix("/files/")

    def key(self, label: str) -> str:
        return self.handle(label).partition("+")[0]

    def recorded(self, label: str) -> list[dict[str, Any]]:
        """Return what tusd said in a scenario, as if it had been about this task's upload, in the order of arrival."""
        events = [json.loads(path.read_text())["body"] for path in sorted(RECORDED.glob(f"{SCENARIOS[label]}__*.json"))]
        theirs = next(event["Event"]["Upload"]["ID"] for event in events if event["Type"] == "post-create")
        for event in events:
            said = event["Event"]["Upload"]
            if said["ID"] in {theirs, ""}:  # what is left over from other uploads stays a stranger's
                said["MetaData"] = {"filename": "", "label": label, "task_id": self.id}
            if said["ID"] == theirs:
                said["ID"], said["Storage"]["Key"] = self.handle(label), self.key(label)
        return events

    def event(self, label: str, kind: str = "post-finish", **claims: Any) -> dict[str, Any]:
        """Return the recorded hook of a kind, with other claims."""
        said = next(event for event in self.recorded(label) if event["Type"] == kind)
        said["Event"]["Upload"] |= {"ID": self.handle(label), **claims}
        return said

    def messages(self) -> int:
        """Count the calls for a worker."""
        broker = self._stack.broker
        assert isinstance(broker, Redis)
        with redis_client.Redis.from_url(broker.url) as client:
            return sum(self.id.encode() in message for message in client.lrange("celery", 0, -1))

    def started_once(self) -> None:
        assert (self.state, self.messages()) == ("pending", 1)


def tell(stack: FullStack, event: dict[str, Any], secret: str | None = HOOK_SECRET) -> httpx.Response:
    """Post a hook where tusd posts it."""
    params = {} if secret is None else {"secret": secret}
    return httpx.post(f"{stack.gateway.url}/tusd_hook", json=event, params=params, timeout=30, trust_env=False)


def at_once(*calls: Callable[[], httpx.Response]) -> list[httpx.Response]:
    """Make calls at the same moment."""
    barrier = threading.Barrier(len(calls))

    def call(one: Callable[[], httpx.Response]) -> httpx.Response:
        barrier.wait(timeout=30)
        return one()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


ORDERS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "as they came": list,
    "backwards": lambda events: events[::-1],
    "mixed up": lambda events: random.Random(5).sample(events, len(events)),
    "twice, mixed up": lambda events: random.Random(7).sample(events * 2, len(events) * 2),
}


@pytest.mark.case(3, 9)
@pytest.mark.parametrize(
    ("order", "parallel"), [("as they came", 1), ("backwards", 1), ("mixed up", 8), ("twice, mixed up", 8)]
)
def test_what_tusd_really_said_starts_the_task_once_in_whatever_order_it_comes(
    stack: FullStack, order: str, parallel: int
) -> None:
    task = Filled(stack)
    events = ORDERS[order]([event for label in SCENARIOS for event in task.recorded(label)])
    with ThreadPoolExecutor(parallel) as pool:
        answers = list(pool.map(lambda event: tell(stack, event), events))
    assert {answer.status_code for answer in answers} == {200}
    said = [answer.json() for event, answer in zip(events, answers, strict=True) if event["Type"] != "pre-create"]
    assert [word for word in said if word != {}] == []  # nobody was told to stop, or anything else
    task.started_once()


@pytest.mark.case(3)
def test_the_same_word_three_times_at_once_is_one_word(stack: FullStack) -> None:
    task = Filled(stack)
    for label in ("pre", "post", "shp"):
        assert tell(stack, task.event(label)).status_code == 200
    assert task.state == "waiting"
    answers = at_once(*[lambda: tell(stack, task.event("shx"))] * 3)
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {})] * 3
    task.started_once()


@pytest.mark.case(4)
def test_four_files_that_finish_at_the_same_moment_start_the_task_once_every_time(stack: FullStack) -> None:
    for _ in range(5):
        task = Filled(stack)
        events = [task.event(label, "pre-finish") for label in FILES]
        answers = at_once(*[lambda event=event: tell(stack, event) for event in events])  # type: ignore[misc]
        assert [answer.status_code for answer in answers] == [200] * 4
        task.started_once()


@pytest.mark.case(5)
def test_starting_by_hand_repairs_lost_hooks_at_once(stack: FullStack) -> None:
    task = Filled(stack, ("pre", "post", "shp"))
    missing = httpx.post(f"{stack.url}/start_task/{task.id}", timeout=30)
    assert (missing.status_code, missing.json()) == (400, {"missing": ["shx"]})
    assert send(task.urls["shx"], FILES["shx"]).status_code == 204
    answers = at_once(*[lambda: httpx.post(f"{stack.url}/start_task/{task.id}", timeout=30)] * 3)
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {"started": True})] * 3
    task.started_once()


@pytest.mark.case(5)
def test_the_reaper_finds_what_nobody_told_and_never_asks_tusd_which_would_interrupt_who_sends(
    stack: FullStack,
) -> None:
    task, under_way = Filled(stack), Filled(stack, ())
    with stack.part("beat", VOLCAL_REAP_INTERVAL_S="0.3"):
        url, body = under_way.urls["pre"], FILES["pre"]

        def slowly() -> Iterator[bytes]:
            for start in range(0, len(body), len(body) // 10):
                yield body[start : start + len(body) // 10]
                httpx.post(f"{stack.url}/start_task/{under_way.id}", timeout=30)  # whoever is impatient
                time.sleep(0.2)

        assert send(url, slowly(), length=len(body)).status_code == 204  # type: ignore[arg-type]
        wait_for(lambda: task.state == "pending", "the reaper")
    task.started_once()
    assert under_way.state == "waiting"
    said = stack.tusd.log.read_text()
    assert "PATCH" in said
    assert "HEAD" not in said
    assert "UploadInterrupted" not in said


@pytest.mark.case(6)
@pytest.mark.parametrize("secret", [None, "", "sesame", HOOK_SECRET])
def test_from_outside_there_is_no_hook_whatever_one_knows(stack: FullStack, secret: str | None) -> None:
    task = Filled(stack)
    for path in ("/tusd_hook", "/tusd_hook/", "//tusd_hook", "/files/../tusd_hook", "/%74usd_hook"):
        params = {} if secret is None else {"secret": secret}
        answer = httpx.post(f"{stack.url}{path}", json=task.event("pre"), params=params, timeout=30, trust_env=False)
        assert answer.status_code == 404, path
    assert stack.task(task.id)["uploads"]["pre"]["state"] == "open"


@pytest.mark.case(6)
@pytest.mark.parametrize("secret", [None, "", "sesame", HOOK_SECRET.upper()])
def test_a_hook_without_the_secret_changes_nothing_and_is_written_down(stack: FullStack, secret: str | None) -> None:
    task = Filled(stack)
    before = stack.gateway.says().count("without the right secret")
    assert [tell(stack, task.event(label), secret).status_code for label in FILES] == [401] * 4
    assert (task.state, task.messages()) == ("waiting", 0)
    assert stack.gateway.says().count("without the right secret") == before + 4


@pytest.mark.case(7)
def test_nobody_opens_an_upload_for_somebody_elses_task(stack: FullStack) -> None:
    victim = Filled(stack, ())
    words = f"task_id {b64encode(victim.id.encode()).decode()},label {b64encode(b'pre').decode()}"
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "5", "Upload-Metadata": words}
    before = stack.objects()
    for grant in ({}, {GRANT: ""}, {GRANT: f"9999999999:{'0' * 64}:{victim.key('pre')}"}):
        for url in (stack.url, f"http://127.0.0.1:{stack.tusd.port}"):
            answer = httpx.post(f"{url}/files/", headers=headers | grant, content=b"", timeout=30, trust_env=False)
            assert answer.status_code == 403
            assert answer.json()["code"] == "UPLOAD_REFUSED"
    assert stack.objects() == before
    assert stack.task(victim.id)["uploads"]["pre"]["url"] == victim.urls["pre"]


@pytest.mark.case(7)
def test_a_grant_that_was_overheard_opens_nothing_again_and_replaces_no_file(stack: FullStack) -> None:
    task = Filled(stack)
    client = stack.minio.client()
    ours = TusdUploads("http://x/files", "http://x/files", client=client, bucket="uploads", secret=HOOK_SECRET)
    before = client.get_object(Bucket="uploads", Key=task.key("pre"))["ETag"]
    note = client.get_object(Bucket="uploads", Key=f"{task.key('pre')}.info")["ETag"]
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": "5",
        GRANT: ours._grant(task.key("pre"), int(time.time()) + 60),
    }
    for url in (stack.url, f"http://127.0.0.1:{stack.tusd.port}"):
        answer = httpx.post(f"{url}/files/", headers=headers, content=b"", timeout=30, trust_env=False)
        assert answer.status_code == 403
    assert client.get_object(Bucket="uploads", Key=task.key("pre"))["ETag"] == before
    assert client.get_object(Bucket="uploads", Key=f"{task.key('pre')}.info")["ETag"] == note
    client.close()


@pytest.fixture(scope="module")
def untouched(stack: FullStack) -> Filled:
    """A task to which nothing has happened, and nothing may happen."""
    return Filled(stack)


@pytest.mark.case(7, 8)
@pytest.mark.parametrize(
    "claims",
    [
        *({"MetaData": {"label": label}} for label in ("status", "__class__", "pre_key", "état", "x" * 10_000, "post")),
        *({"MetaData": {"task_id": other}} for other in ("11111111-1111-1111-1111-111111111111", "", "../x", 7, None)),
        *({"ID": said} for said in ("forged", "tasks/x+y", "", "a\x00b", "x" * 10_000, None, ["a"])),
    ],
    ids=lambda claims: str(claims)[:40],
)
def test_a_hook_that_claims_what_was_not_issued_is_ignored(
    stack: FullStack, untouched: Filled, claims: dict[str, Any]
) -> None:
    task = untouched
    for kind in ("pre-finish", "post-finish", "post-receive"):
        answer = tell(stack, task.event("pre", kind="post-finish", **claims) | {"Type": kind})
        assert (answer.status_code, answer.json()) == (200, {})
    told = stack.task(task.id)
    assert (told["status"], told["uploads"]["pre"]["state"], told["error"]) == ("waiting", "open", None)


@pytest.mark.case(9)
def test_what_comes_late_for_a_cancelled_task_moves_it_nowhere_and_who_sends_is_stopped(stack: FullStack) -> None:
    task = Filled(stack)
    httpx.post(f"{stack.url}/api/v1/tasks/{task.id}/cancel", timeout=30).raise_for_status()
    for label in FILES:
        assert tell(stack, task.event(label, "pre-finish")).json() == {}
        assert tell(stack, task.event(label)).json() == {}
        assert tell(stack, task.event(label) | {"Type": "post-receive"}).json() == {"StopUpload": True}
    assert (task.state, task.messages()) == ("killed", 0)
    assert stack.objects(f"tasks/{task.id}/") == []


@pytest.mark.case(9)
def test_what_comes_late_for_a_task_that_was_deleted_is_about_nothing(stack: FullStack) -> None:
    task = Filled(stack)
    httpx.delete(f"{stack.url}/api/v1/tasks/{task.id}", timeout=30).raise_for_status()
    for kind in ("pre-finish", "post-finish", "post-receive"):
        assert tell(stack, task.event("pre") | {"Type": kind}).status_code == 200
    assert httpx.get(f"{stack.url}/api/v1/tasks/{task.id}", timeout=30).status_code == 404
    assert stack.objects(f"tasks/{task.id}/") == []
