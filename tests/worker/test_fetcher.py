"""Files that are named by URLs: they come whole, whatever the line, their host and we ourselves do meanwhile."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import app.samples
from app.context import Context
from app.db.models import Task, Upload
from app.domain.access import Caller, scopes_of
from app.domain.errors import LabelUnknown, UrlRefused
from app.domain.tasks import TaskState
from app.outbound import AllowList, GuardedClient, Limits, WebFiles
from app.services import janitor, queries, tasks, uploads
from app.services.intake import fetches, inputs
from tests.files import WebFile
from tests.receivers import Receiver, Request, answer, dead_port
from worker.fetcher import Fetcher, fetch_file

SAMPLES = Path(app.samples.__file__).parent / "ttp"
CONTENT = bytes(range(256)) * 2000
LARGEST = 1 << 20


class Bank:
    """A context with files of the web, and shortcuts."""

    def __init__(self, bench: Any) -> None:
        files = WebFiles(
            GuardedClient(AllowList(["127.0.0.0/8"])), Limits(max_bytes=LARGEST, total_s=60.0, idle_s=20.0)
        )
        policy = replace(bench.context.policy, fetch_attempts=3, min_free_bytes=0)
        self.context: Context = replace(bench.context, sources={"http": files}, policy=policy)
        self.queue = bench.queue
        self.folder: Path = bench.root / "fetching"

    def create(self, pipeline: str = "constant", owner: str = "", **urls: str) -> UUID:
        context = self.context.seen_by(Caller(owner, "key", owner, scopes_of(["write"]))) if owner else self.context
        return tasks.create_task(context, pipeline, inputs=urls)[0].id

    def fetch(self, task_id: UUID, label: str = "file", stopping: Callable[[], bool] = lambda: False) -> None:
        """Try once, at once."""
        upload_id = self.upload(task_id, label).id
        with self.context.unit_of_work() as work:
            upload = work.session.get(Upload, upload_id)
            assert upload is not None
            if upload.due_at is not None:
                upload.due_at = datetime.now(UTC) - timedelta(seconds=1)
            work.commit()
        fetch_file(self.context, upload_id, self.folder, stopping)

    def task(self, task_id: UUID) -> Task:
        with self.context.unit_of_work(read_only=True) as work:
            return queries.get_task(work, task_id)

    def upload(self, task_id: UUID, label: str = "file") -> Upload:
        with self.context.unit_of_work(read_only=True) as work:
            return queries.current(queries.get_task(work, task_id).uploads)[label]

    def content(self, task_id: UUID, label: str = "file") -> bytes:
        with self.context.store.open(self.upload(task_id, label).key) as stream:
            return stream.read()

    def leftovers(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()]


@pytest.fixture
def bank(bench: Any) -> Bank:
    return Bank(bench)


@pytest.fixture
def host() -> Iterator[Receiver]:
    with Receiver(WebFile(CONTENT)) as receiver:
        yield receiver


def test_a_file_is_fetched_and_looked_at_and_starts_its_task(bank: Bank, host: Receiver) -> None:
    task_id = bank.create(file=f"{host.url}/a/survey%201.laz?sig=secret")
    assert bank.task(task_id).state is TaskState.WAITING
    bank.fetch(task_id)
    upload = bank.upload(task_id)
    assert bank.content(task_id) == CONTENT
    assert (upload.state, upload.size, upload.filename) == ("finished", len(CONTENT), "survey 1.laz")
    assert (upload.url, upload.due_at) == (None, None)  # a secret that nobody needs any more
    assert bank.task(task_id).state is TaskState.PENDING
    assert bank.queue.rung == [(task_id, 0, "")]
    assert bank.leftovers() == []
    assert host.requests[0].line == "GET /a/survey%201.laz?sig=secret HTTP/1.1"


def test_a_line_that_breaks_costs_no_byte_twice(bank: Bank, host: Receiver) -> None:
    host.react = WebFile(CONTENT, cuts=[100_000, 50_000])
    task_id = bank.create(file=f"{host.url}/a.laz")
    for got in (100_000, 150_000):
        bank.fetch(task_id)
        upload = bank.upload(task_id)
        assert (upload.state, upload.received, upload.length) == ("open", got, len(CONTENT))
        assert upload.due_at is not None
        assert upload.due_at > datetime.now(UTC)
    bank.fetch(task_id)
    assert bank.content(task_id) == CONTENT
    asked = [(request.headers.get("range"), request.headers.get("if-range")) for request in host.requests]
    assert asked == [(None, None), ("bytes=100000-", '"1"'), ("bytes=150000-", '"1"')]


def test_a_file_that_is_another_one_by_now_is_fetched_anew(bank: Bank, host: Receiver) -> None:
    host.react = WebFile(CONTENT, cuts=[100_000])
    task_id = bank.create(file=f"{host.url}/a.laz")
    bank.fetch(task_id)
    host.react = WebFile(CONTENT[::-1], tag='"2"')
    bank.fetch(task_id)
    assert bank.content(task_id) == CONTENT[::-1]


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": 'W/"1"'},
        {"ETag": ""},
        {"ETag": '"ü"'},
        {"ETag": '"' + 600 * "x" + '"'},
        {"Content-Range": "bytes 5-9/10"},
    ],
)
def test_a_host_that_cannot_go_on_well_sends_the_file_once_more(
    bank: Bank, host: Receiver, headers: dict[str, str]
) -> None:
    host.react = WebFile(CONTENT, cuts=[100_000], headers=headers if "ETag" in headers else {})
    task_id = bank.create(file=f"{host.url}/a.laz")
    bank.fetch(task_id)
    host.react = WebFile(CONTENT, headers=headers)
    bank.fetch(task_id)
    if "Content-Range" in headers:  # another part than was asked for: not used
        assert bank.upload(task_id).state == "open"
        host.react = WebFile(CONTENT)
        bank.fetch(task_id)
    assert bank.content(task_id) == CONTENT


def test_a_host_that_lies_about_the_length_is_given_up_and_another_url_brings_the_task_back(
    bank: Bank, host: Receiver
) -> None:
    host.react = WebFile(CONTENT[:1000], promises=5000)
    task_id = bank.create(file=f"{host.url}/a.laz?sig=secret")
    for _ in range(4):
        bank.fetch(task_id)
    task = bank.task(task_id)
    assert task.state is TaskState.ERROR
    assert task.error is not None
    assert (task.error["code"], task.error["label"]) == ("FETCH_FAILED", "file")
    assert host.authority in task.error["message"]
    assert "secret" not in str(task.error)
    assert task.error["remedy"]
    assert task.error["details"]["fresh_upload"]["url"].endswith(f"/api/v1/tasks/{task_id}/uploads/file")
    assert bank.leftovers() == []
    host.react = WebFile(CONTENT)
    inputs.fetch_input(bank.context, task_id, "file", f"{host.url}/b.laz")
    assert bank.task(task_id).state is TaskState.WAITING
    bank.fetch(task_id)
    assert bank.task(task_id).state is TaskState.PENDING
    assert bank.content(task_id) == CONTENT


def endless(connection: socket.socket, _: Request) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")


@pytest.mark.parametrize(
    ("reaction", "code", "reason"),
    [
        (answer(404), "FETCH_FAILED", "status"),
        (answer(403), "FETCH_FAILED", "status"),
        (WebFile(b"", promises=LARGEST + 1), "UPLOAD_TOO_LARGE", "too_large"),
        (endless, "UPLOAD_TOO_LARGE", "too_large"),
        (WebFile(b"123", headers={"Content-Length": ""}), "FETCH_FAILED", "length"),
        (answer(302, Location="http://10.0.0.1/"), "URL_REFUSED", "refused"),
        (answer(302, Location="file:///etc/passwd"), "URL_REFUSED", "refused"),
        (answer(302, Location="/again"), "FETCH_FAILED", "redirects"),
    ],
)
def test_what_will_never_come_ends_the_task_at_once(
    bank: Bank, host: Receiver, reaction: Any, code: str, reason: str
) -> None:
    host.react = reaction
    task_id = bank.create(file=f"{host.url}/a.laz")
    bank.fetch(task_id)
    task = bank.task(task_id)
    assert task.state is TaskState.ERROR
    assert task.error is not None
    assert (task.error["code"], task.error["details"]["reason"]) == (code, reason)
    assert "10.0.0.1" not in str(task.error)


def test_a_host_that_asks_for_time_is_given_it(bank: Bank, host: Receiver) -> None:
    host.react = answer(503, Retry_After="120")
    task_id = bank.create(file=f"{host.url}/a.laz")
    bank.fetch(task_id)
    due_at = bank.upload(task_id).due_at
    assert due_at is not None
    assert due_at > datetime.now(UTC) + timedelta(seconds=100)
    host.react = WebFile(CONTENT)
    bank.fetch(task_id)
    assert bank.task(task_id).state is TaskState.PENDING


def test_a_fault_of_ours_is_tried_again_no_more_often_than_one_of_the_host(
    bank: Bank, host: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(WebFiles, "fetch", defect)
    task_id = bank.create(file=f"{host.url}/a.laz")
    for state in (TaskState.WAITING, TaskState.WAITING, TaskState.ERROR):
        bank.fetch(task_id)
        assert bank.task(task_id).state is state


def test_a_host_that_is_away_is_tried_again_for_as_long_as_was_said(bank: Bank) -> None:
    with dead_port() as port:
        task_id = bank.create(file=f"http://127.0.0.1:{port}/a.laz")
        for state in (TaskState.WAITING, TaskState.WAITING, TaskState.ERROR):
            bank.fetch(task_id)
            assert bank.task(task_id).state is state


def test_a_redirect_to_where_we_may_go_is_followed(bank: Bank, host: Receiver) -> None:
    with Receiver(answer(302, Location=f"{host.url}/b.laz")) as first:
        task_id = bank.create(file=f"{first.url}/a.laz")
        bank.fetch(task_id)
    assert bank.content(task_id) == CONTENT


def test_the_name_that_a_host_gives_a_file_is_taken_but_not_its_folders(bank: Bank, host: Receiver) -> None:
    host.react = WebFile(CONTENT, headers={"Content-Disposition": 'attachment; filename="../../Week 14.LAZ"'})
    task_id = bank.create(file=f"{host.url}/download?id=3")
    bank.fetch(task_id)
    assert bank.upload(task_id).filename == "Week 14.LAZ"


def test_a_file_that_is_not_what_its_label_says_is_refused_as_if_it_had_been_sent(bank: Bank, host: Receiver) -> None:
    host.react = WebFile(b"no shape")
    task_id = bank.create("volume_change", shp=f"{host.url}/stable.shp")
    bank.fetch(task_id, "shp")
    task = bank.task(task_id)
    assert task.error is not None
    assert (task.state, task.error["code"], task.error["label"]) == (TaskState.ERROR, "INPUT_INVALID", "shp")


def test_a_file_for_which_its_owner_has_no_room_is_not_fetched(bank: Bank, host: Receiver) -> None:
    bank.context = replace(bank.context, policy=replace(bank.context.policy, quota_bytes=1000))
    task_id = bank.create(owner="alice", file=f"{host.url}/a.laz")
    bank.fetch(task_id)
    task = bank.task(task_id)
    assert task.error is not None
    assert task.error["code"] == "QUOTA_UPLOAD"


def test_a_disk_without_room_is_waited_for(bank: Bank, host: Receiver) -> None:
    bank.context = replace(bank.context, policy=replace(bank.context.policy, min_free_bytes=1 << 62))
    task_id = bank.create(file=f"{host.url}/a.laz")
    bank.fetch(task_id)
    assert (bank.task(task_id).state, bank.upload(task_id).state) == (TaskState.WAITING, "open")


def test_cancelling_stops_a_fetch(bank: Bank, host: Receiver) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    def slow(connection: socket.socket, _: Request) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n")
        begun.set()
        cancelled.wait(60)
        while True:  # until we hang up
            connection.sendall(b"x" * 1000)
            host.closing.wait(0.01)

    host.react = slow
    bank.context = replace(bank.context, policy=replace(bank.context.policy, lease_s=0.2))
    task_id = bank.create(file=f"{host.url}/a.laz")
    thread = threading.Thread(target=bank.fetch, args=(task_id,))
    thread.start()
    begun.wait(60)
    with bank.context.unit_of_work() as work:
        tasks.cancel_task(work, task_id)
        work.commit()
    cancelled.set()
    thread.join(60)
    assert not thread.is_alive()
    assert bank.task(task_id).state is TaskState.KILLED
    assert bank.leftovers() == []


def test_who_is_asked_to_stop_keeps_what_came_and_anybody_goes_on_with_it(bank: Bank, host: Receiver) -> None:
    host.react = WebFile(CONTENT, cuts=[100_000])
    task_id = bank.create(file=f"{host.url}/a.laz")
    bank.fetch(task_id)
    host.react = WebFile(CONTENT)
    bank.fetch(task_id, stopping=lambda: True)
    upload = bank.upload(task_id)
    assert upload.due_at is not None
    assert (upload.state, upload.due_at <= datetime.now(UTC)) == ("open", True)
    fetch_file(bank.context, upload.id, bank.folder)
    assert bank.content(task_id) == CONTENT


def test_who_was_killed_after_the_last_byte_is_followed_without_another_request(bank: Bank, host: Receiver) -> None:
    task_id = bank.create(file=f"{host.url}/a.laz")
    upload = bank.upload(task_id)
    claim = fetches.claim(bank.context, upload.id)
    assert claim is not None
    assert fetches.hold(bank.context, claim, replace(claim.known, received=len(CONTENT), length=len(CONTENT)))
    bank.folder.mkdir()
    (bank.folder / upload.id).write_bytes(CONTENT)
    assert fetches.due(bank.context, datetime.now(UTC), limit=9) == []  # while the claim lasts
    bank.fetch(task_id)
    assert (bank.content(task_id), host.requests) == (CONTENT, [])


def test_what_was_put_away_and_not_recorded_is_found_by_the_reaper(bank: Bank, host: Receiver) -> None:
    task_id = bank.create(file=f"{host.url}/a.laz")
    (source := bank.folder.parent / "x").write_bytes(CONTENT)
    bank.context.store.put(bank.upload(task_id).key, source)
    janitor.reap(bank.context, datetime.now(UTC) + timedelta(seconds=10))
    assert bank.task(task_id).state is TaskState.PENDING


def test_one_of_many_fetches_a_file(bank: Bank, host: Receiver) -> None:
    task_id = bank.create(file=f"{host.url}/a.laz")
    upload_id = bank.upload(task_id).id
    threads = [threading.Thread(target=fetch_file, args=(bank.context, upload_id, bank.folder)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(host.requests) == 1
    assert bank.content(task_id) == CONTENT


def test_who_lost_the_claim_changes_nothing(bank: Bank, host: Receiver) -> None:
    task_id = bank.create(file=f"{host.url}/a.laz")
    upload_id = bank.upload(task_id).id
    late = fetches.claim(bank.context, upload_id)
    assert late is not None
    bank.fetch(task_id)
    assert not fetches.hold(bank.context, late, replace(late.known, received=5))
    assert bank.upload(task_id).received == len(CONTENT)
    assert fetches.claim(bank.context, upload_id) is None


def test_a_file_that_was_sent_instead_ends_the_fetch(bank: Bank, host: Receiver) -> None:
    host.react = WebFile(CONTENT, cuts=[1000])
    task_id = bank.create(file=f"{host.url}/a.laz")
    bank.fetch(task_id)
    named = bank.upload(task_id).id
    uploads.open_upload(bank.context, task_id, "file")
    assert fetches.due(bank.context, datetime.now(UTC) + timedelta(hours=1), limit=9) == []
    assert fetches.claim(bank.context, named) is None
    assert bank.upload(task_id).source == ""


def test_an_optional_file_that_was_named_is_waited_for(bank: Bank, host: Receiver) -> None:
    shape = {label: (SAMPLES / f"stable_area.{label}").read_bytes() for label in ("shp", "shx", "prj")}
    cloud = "".join(f"{x} {y} {0.1 * x:.1f}\n" for x in range(20) for y in range(20)).encode()
    files = {"/pre": cloud, "/post": cloud, **{f"/{label}": content for label, content in shape.items()}}
    host.react = lambda connection, request: WebFile(files[request.line.split()[1]])(connection, request)
    task_id = bank.create("volume_change", **{path[1:]: f"{host.url}{path}" for path in files})
    for label in ("pre", "post", "shp", "shx"):
        bank.fetch(task_id, label)
        assert bank.task(task_id).state is TaskState.WAITING
    bank.fetch(task_id, "prj")
    assert bank.task(task_id).state is TaskState.PENDING


def test_a_task_whose_files_still_come_does_not_expire(bank: Bank, host: Receiver) -> None:
    host.react = WebFile(CONTENT, cuts=[1000])
    task_id = bank.create(file=f"{host.url}/a.laz")
    bank.fetch(task_id)
    long_ago = datetime.now(UTC) - timedelta(days=3)
    with bank.context.unit_of_work() as work:
        task = work.session.get(Task, task_id)
        assert task is not None
        task.created_at = task.uploads[0].created_at = long_ago
        work.commit()
    assert janitor.reap(bank.context, datetime.now(UTC)).expired == 0
    assert janitor.reap(bank.context, datetime.now(UTC) + timedelta(days=2)).expired == 1
    assert fetches.due(bank.context, datetime.now(UTC) + timedelta(days=9), limit=9) == []


def test_what_is_no_url_of_a_file_creates_no_task(bank: Bank) -> None:
    for url in (
        f"http://127.0.0.1/{600 * 'ü'}",
        "ftp://127.0.0.1/a",
        "file:///etc/passwd",
        "/etc/passwd",
        "http://10.0.0.1/a",
        "s3://uploads/tasks/x",
    ):
        with pytest.raises(UrlRefused):
            bank.create(file=url)
    with pytest.raises(LabelUnknown):
        bank.create(other="http://127.0.0.1/a")
    with bank.context.unit_of_work(read_only=True) as work:
        assert tasks.list_tasks(work) == []


def test_of_a_url_the_host_is_all_that_is_told(bank: Bank, host: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for reaction in (WebFile(CONTENT, cuts=[10]), answer(404)):
        host.react = reaction
        task_id = bank.create(file=f"{host.url}/path-5e?sig=secret-5e")
        bank.fetch(task_id)
    told = " ".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert host.authority in told
    assert "secret-5e" not in told
    assert "path-5e" not in told


def test_a_slow_host_takes_no_places_from_others(bank: Bank, host: Receiver) -> None:
    held, stop = threading.Event(), threading.Event()
    with Receiver(lambda *_: held.wait(60)) as slow:
        stuck = [bank.create(file=f"{slow.url}/{n}") for n in range(12)]
        quick = [bank.create(file=f"{host.url}/{n}") for n in range(3)]
        (bank.folder / "x").parent.mkdir()
        (bank.folder / "what-nobody-wants").write_bytes(b"x")
        thread = threading.Thread(target=Fetcher(bank.context, bank.folder, every_s=0.02).run, args=(stop,))
        thread.start()
        try:
            for task_id in quick:
                while bank.task(task_id).state is not TaskState.PENDING:
                    assert not stop.wait(0.02)
            assert len(slow.requests) == 4
            assert {bank.task(task_id).state for task_id in stuck} == {TaskState.WAITING}
            assert "what-nobody-wants" not in bank.leftovers()
        finally:
            stop.set()
            held.set()
            thread.join(60)
