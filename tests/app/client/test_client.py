"""The client against a server made of a few lines, which can be told to misbehave."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.client import (
    Refused,
    TaskFailed,
    TransferFailed,
    Unreachable,
    VolcalClient,
    WaitedTooLong,
    core,
    sending,
    transport,
)
from app.client.memory import Memory, fingerprint

DATA = bytes(range(256)) * 4000
Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(transport, "_LONGEST_PAUSE_S", 0.002)
    monkeypatch.setattr(core, "_POLL_S", 0.001)
    monkeypatch.setattr(core, "_LONGEST_POLL_S", 0.002)


def client_of(handler: Handler, patience_s: float = 0.5, token: str | None = None) -> VolcalClient:
    return VolcalClient(
        "http://volcal.test/", transport=httpx.MockTransport(handler), patience_s=patience_s, token=token
    )


class Scripted:
    """Answers one request after the other; an exception is raised, the last entry repeats."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def task(status: str, **more: Any) -> httpx.Response:
    return httpx.Response(200, json={"id": "7", "status": status, "a member of tomorrow": 1, **more})


DOWN = httpx.ConnectError("Connection refused")


# Asking


def test_a_task_is_created_with_its_options() -> None:
    server = Scripted(task("waiting", uploads={"pre": {"state": "open", "url": "http://x/files/a"}}, missing=["pre"]))
    with client_of(server) as client:
        made = client.create(options={"cell": 0.5}, name="Quarry")
    assert (made.id, made.uploads["pre"].url) == ("7", "http://x/files/a")
    assert str(server.asked[0].url) == "http://volcal.test/api/v1/tasks"
    assert json.loads(server.asked[0].content) == {
        "pipeline": "volume_change", "options": {"cell": 0.5}, "name": "Quarry",
    }  # fmt: skip


def test_each_request_goes_to_its_route() -> None:
    answer = httpx.Response(200, json={"id": "7", "status": "running", "url": "http://x/files/b", "results": None})
    server = Scripted(answer)
    with client_of(server) as client:
        assert client.fresh_upload("7", "pre", filename="a.laz") == "http://x/files/b"
        assert client.start("7").status == "running"
        assert client.cancel("7").status == "running"
        assert client.query("7")["results"] is None
        assert client.results("7")["status"] == "running"
    assert [f"{request.method} {request.url.path}" for request in server.asked] == [
        "POST /api/v1/tasks/7/uploads/pre",
        "POST /api/v1/tasks/7/start",
        "POST /api/v1/tasks/7/cancel",
        "GET /query_task/7",
        "GET /api/v1/tasks/7/results",
    ]
    assert json.loads(server.asked[0].content) == {"filename": "a.laz"}


def test_a_refusal_says_what_and_why() -> None:
    problem = {"code": "TASK_NOT_FOUND", "detail": "Task not found", "remedy": "Look at the list.", "status": 404}
    with client_of(Scripted(httpx.Response(404, json=problem))) as client, pytest.raises(Refused) as caught:
        client.task("8")
    error = caught.value
    assert (error.status, error.code, error.message, error.remedy) == (
        404, "TASK_NOT_FOUND", "Task not found", "Look at the list.",
    )  # fmt: skip


@pytest.mark.parametrize("body", [b"<html>nginx</html>", b"[1]", b""])
def test_a_refusal_without_words_still_has_a_code(body: bytes) -> None:
    with client_of(Scripted(httpx.Response(403, content=body))) as client, pytest.raises(Refused) as caught:
        client.task("8")
    assert caught.value.code == "HTTP_403"


def test_an_answer_that_is_no_json_is_no_volcal_server() -> None:
    answer = httpx.Response(200, content=b"<html>")
    with client_of(Scripted(answer)) as client, pytest.raises(Refused, match="not a Volcal server"):
        client.task("8")


@pytest.mark.parametrize("outage", [DOWN, httpx.ReadTimeout("slow"), httpx.Response(503), httpx.Response(429)])
def test_an_outage_passes_unnoticed(outage: httpx.Response | Exception) -> None:
    with client_of(Scripted(outage, outage, task("running"))) as client:
        assert client.task("7").status == "running"


def test_a_server_that_never_answers_is_unreachable() -> None:
    with client_of(Scripted(DOWN), patience_s=0.01) as client, pytest.raises(Unreachable, match="does not answer"):
        client.task("7")


@pytest.mark.parametrize("server", ["volcal.test", "ftp://volcal.test", "http://", "http://a b/"])
def test_an_address_that_is_none_is_unreachable(server: str) -> None:
    with VolcalClient(server, patience_s=0.01) as client, pytest.raises(Unreachable):
        client.task("7")


def test_a_task_is_not_created_twice_when_the_answer_is_lost() -> None:
    busy = httpx.Response(
        409, json={"code": "IDEMPOTENCY_KEY_BUSY", "detail": "under way"}, headers={"Retry-After": "0"}
    )
    server = Scripted(httpx.ReadError("reset"), httpx.ReadTimeout("slow"), busy, task("waiting"), task("waiting"))
    with client_of(server) as client:
        assert client.create().id == "7"
        first = {request.headers["idempotency-key"] for request in server.asked}
        assert (len(server.asked), len(first)) == (4, 1)
        client.create()
    assert server.asked[4].headers["idempotency-key"] not in first


def test_a_conflict_that_waiting_does_not_mend_is_told_at_once() -> None:
    reused = httpx.Response(409, json={"code": "IDEMPOTENCY_KEY_REUSED", "detail": "another body"})
    server = Scripted(reused, task("waiting"))
    with client_of(server) as client, pytest.raises(Refused, match="another body"):
        client.create()
    assert len(server.asked) == 1


def test_the_token_goes_to_the_server_and_not_along_with_links(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "files.test":
            assert "authorization" not in request.headers
            return httpx.Response(200, content=b"x")
        assert request.headers["authorization"] == "Bearer secret"
        return httpx.Response(200, json={"artifacts": [{"name": "a", "size": 1, "url": "http://files.test/a"}]})

    with client_of(answer, token="secret") as client:
        assert [path.read_bytes() for path in client.fetch("7", tmp_path)] == [b"x"]


def test_the_key_goes_along_with_an_upload_to_the_server_and_to_no_other(tmp_path: Path) -> None:
    told: dict[str, str | None] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        told[str(request.url.copy_with(path="/"))] = request.headers.get("authorization")
        return httpx.Response(200, headers={"Upload-Offset": "1", "Upload-Length": "1"})

    (path := tmp_path / "a").write_bytes(b"x")
    with client_of(answer, token="secret") as client:
        for host in ("http://volcal.test", "http://volcal.test:80", "http://volcal.test:81", "https://volcal.test"):
            client.upload(f"{host}/files/1", path)
        client.upload("http://elsewhere.test/files/1", path)
    assert {url for url, key in told.items() if key} == {"http://volcal.test/"}
    assert len(told) == 4


def test_too_many_requests_are_waited_out_as_long_as_the_server_says() -> None:
    slow = httpx.Response(429, headers={"Retry-After": "1"}, json={"code": "RATE_LIMITED", "detail": "Too many."})
    begin = time.monotonic()
    with client_of(Scripted(slow, task("done")), patience_s=5.0) as client:
        assert client.task("7").status == "done"
    assert time.monotonic() - begin >= 1.0
    long = httpx.Response(429, headers={"Retry-After": "600"}, json={"code": "RATE_LIMITED", "detail": "Too many."})
    with client_of(Scripted(long), patience_s=5.0) as client, pytest.raises(Refused) as caught:
        client.task("7")
    assert (caught.value.code, caught.value.remedy) == ("RATE_LIMITED", "Wait a little, then try again.")


def test_a_quota_that_is_used_up_is_not_waited_for() -> None:
    full = httpx.Response(429, json={"code": "QUOTA_TASKS", "detail": "Three of three.", "remedy": "Cancel one."})
    server = Scripted(full)
    with client_of(server, patience_s=60.0) as client, pytest.raises(Refused) as caught:
        client.create()
    assert (caught.value.code, caught.value.remedy) == ("QUOTA_TASKS", "Cancel one.")
    assert len(server.asked) == 1


# Waiting


def test_waiting_ends_when_the_task_is_done() -> None:
    seen: list[tuple[str, float]] = []
    server = Scripted(task("pending"), DOWN, task("running", progress=0.5), task("done", progress=1.0))
    with client_of(server) as client:
        client.wait("7", on_status=lambda now: seen.append((now.status, now.progress)))
    assert seen == [("pending", 0.0), ("running", 0.5), ("done", 1.0)]


def test_a_task_that_fails_says_which_file_and_what_to_do() -> None:
    error = {"code": "INPUT_INVALID", "label": "pre", "message": "It is a picture.", "remedy": "Send a cloud."}
    server = Scripted(task("running"), task("error", error=error))
    with client_of(server) as client, pytest.raises(TaskFailed) as caught:
        client.wait("7")
    failed = caught.value
    assert (failed.code, failed.label, failed.message, failed.remedy) == (
        "INPUT_INVALID", "pre", "It is a picture.", "Send a cloud.",
    )  # fmt: skip


def test_waiting_has_an_end_if_one_is_asked_for() -> None:
    with client_of(Scripted(task("running"))) as client, pytest.raises(WaitedTooLong):
        client.wait("7", timeout_s=0.01)


# Sending


class TusServer:
    """One upload. ``faults`` are taken one a PATCH: bytes to keep before the line breaks, or a status to answer."""

    def __init__(self, faults: Iterator[int | str] | None = None, *, length: str | None = None) -> None:
        self.data = b""
        self.length = length
        self.faults = iter(faults or [])
        self.lengths_said: list[str | None] = []
        self.heads = 0
        self.takes_length_with_head = True

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["tus-resumable"] == "1.0.0"
        if request.method == "HEAD":
            self.heads += 1
            if self.takes_length_with_head:
                self.length = self.length or request.headers.get("upload-length")
            more = {"Upload-Defer-Length": "1"} if self.length is None else {"Upload-Length": self.length}
            return httpx.Response(200, headers={"Upload-Offset": str(len(self.data)), **more})
        body = request.read()
        fault = next(self.faults, None)
        if isinstance(fault, str):
            return httpx.Response(int(fault), json={"code": "SOME", "detail": "no"})
        if int(request.headers["upload-offset"]) != len(self.data):
            return httpx.Response(409)
        assert request.headers["content-length"] == str(len(body))
        self.lengths_said.append(request.headers.get("upload-length"))
        if self.lengths_said[-1] is not None:
            assert self.length is None, "said twice"
            self.length = self.lengths_said[-1]
        self.data += body if fault is None else body[:fault]
        if fault is not None:
            raise httpx.WriteError("broken pipe")
        return httpx.Response(204, headers={"Upload-Offset": str(len(self.data))})


@pytest.fixture
def survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sending, "_PIECE", 300_000)
    (path := tmp_path / "survey.laz").write_bytes(DATA)
    return path


def upload(server: TusServer, path: Path, patience_s: float = 0.5) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    with client_of(server, patience_s) as client:
        client.upload("http://volcal.test/files/a", path, progress=lambda done, total: seen.append((done, total)))
    return seen


def test_a_file_arrives_in_pieces(survey: Path) -> None:
    server = TusServer()
    seen = upload(server, survey)
    assert server.data == DATA
    assert seen[0] == (0, len(DATA))
    assert seen[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_server_that_wants_the_length_with_the_bytes_hears_it_once(survey: Path) -> None:
    server = TusServer()
    server.takes_length_with_head = False
    upload(server, survey)
    assert server.data == DATA
    assert server.lengths_said == [str(len(DATA)), None, None, None]


@pytest.mark.parametrize("takes_length_with_head", [True, False])
def test_an_empty_file_arrives(tmp_path: Path, takes_length_with_head: bool) -> None:
    (tmp_path / "empty").touch()
    server = TusServer()
    server.takes_length_with_head = takes_length_with_head
    upload(server, tmp_path / "empty")
    assert (server.data, server.length) == (b"", "0")


def test_a_line_that_breaks_again_and_again_costs_only_the_bytes_in_flight(survey: Path) -> None:
    server = TusServer(iter([1000, 0, "423", 299_999, "503", "409", 0, 1]))
    upload(server, survey)
    assert server.data == DATA


def test_an_upload_goes_on_where_another_process_stopped(survey: Path) -> None:
    server = TusServer(length=str(len(DATA)))
    server.data = DATA[:700_000]
    seen = upload(server, survey)
    assert server.data == DATA
    assert seen[0] == (700_000, len(DATA))


def test_an_upload_that_is_all_there_is_not_sent_again(survey: Path) -> None:
    server = TusServer(length=str(len(DATA)))
    server.data = DATA
    upload(server, survey)
    assert server.lengths_said == []


@pytest.mark.parametrize("status", ["403", "404", "410", "413"])
def test_a_server_that_says_no_is_not_asked_again(survey: Path, status: str) -> None:
    server = TusServer(iter([status, "500"]))
    with pytest.raises(Refused) as caught:
        upload(server, survey)
    assert caught.value.status == int(status)


def test_patience_ends_when_nothing_arrives(survey: Path) -> None:
    with pytest.raises(Unreachable, match="while sending survey"):
        upload(TusServer(iter([0] * 10_000)), survey, patience_s=0.05)


@pytest.mark.parametrize(("length", "offset"), [("5", 0), (None, len(DATA) + 1)])
def test_an_upload_of_another_file_is_not_continued(survey: Path, length: str | None, offset: int) -> None:
    server = TusServer(length=length)
    server.takes_length_with_head = False
    server.data = bytes(offset)
    with pytest.raises(TransferFailed, match="belongs to another file"):
        upload(server, survey)


def test_a_file_that_changes_while_it_is_sent_is_noticed(survey: Path) -> None:
    class Meanwhile(TusServer):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            answer = super().__call__(request)
            with survey.open("ab") as stream:
                stream.write(b"more")
            return answer

    with pytest.raises(TransferFailed, match="changed while it was sent"):
        upload(Meanwhile(), survey)


def test_what_is_no_tus_server_is_named(survey: Path) -> None:
    def page(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"<html>")

    with client_of(page) as client, pytest.raises(TransferFailed, match="not a tus"):
        client.upload("http://volcal.test/files/a", survey)


# Fetching


class FileServer:
    """Serves files with ranges; ``cuts`` are bytes after which the line breaks, one a request."""

    def __init__(self, files: dict[str, bytes], cuts: list[int] | None = None, *, ranges: bool = True) -> None:
        self.files = files
        self.cuts = cuts or []
        self.ranges = ranges
        self.sent = 0
        self.listed = 0
        self.stale = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/artifacts"):
            self.listed += 1
            listing = [
                {"name": name, "size": len(data), "url": f"http://files.test/{number}"}
                for number, (name, data) in enumerate(self.files.items())
            ]
            return httpx.Response(200, json={"artifacts": listing})
        if self.stale:
            self.stale -= 1
            return httpx.Response(403, json={"code": "LINK_INVALID", "detail": "expired"})
        data = list(self.files.values())[int(request.url.path[1:])]
        start = int(request.headers["range"][6:-1]) if "range" in request.headers and self.ranges else 0
        cut = self.cuts.pop(0) if self.cuts else None
        return httpx.Response(206 if start else 200, stream=_Body(self, data[start:], cut))


class _Body(httpx.SyncByteStream):
    def __init__(self, server: FileServer, data: bytes, cut: int | None) -> None:
        self._server, self._data, self._cut = server, data, cut

    def __iter__(self) -> Iterator[bytes]:
        self._server.sent += len(self._data[: self._cut])
        yield self._data[: self._cut]
        if self._cut is not None:
            raise httpx.ReadError("reset")


FILES = {"results.json": b"{}", "hulls/1.png": DATA, "hulls/2.png": DATA[:5000], "empty": b""}


def fetch(server: FileServer, folder: Path, **kwargs: Any) -> dict[str, bytes]:
    with client_of(server, **kwargs) as client:
        found = client.fetch("7", folder, parallel=2)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_every_file_of_a_result_is_fetched(tmp_path: Path) -> None:
    assert fetch(FileServer(FILES), tmp_path / "out") == FILES
    assert sorted(path.name for path in (tmp_path / "out" / "hulls").iterdir()) == ["1.png", "2.png"]


def test_a_broken_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    server = FileServer({"a": DATA}, cuts=[100_000, 0, 1, 500_000])
    assert fetch(server, tmp_path) == {"a": DATA}
    assert server.sent == len(DATA)


def test_a_download_that_another_process_began_is_continued(tmp_path: Path) -> None:
    server = FileServer({"a": DATA})
    (tmp_path / ".a.part").write_bytes(DATA[:300_000])
    assert fetch(server, tmp_path) == {"a": DATA}
    assert server.sent == len(DATA) - 300_000


def test_a_server_without_ranges_is_asked_from_the_start(tmp_path: Path) -> None:
    assert fetch(FileServer({"a": DATA}, cuts=[1000], ranges=False), tmp_path) == {"a": DATA}


def test_what_is_there_already_is_not_fetched_again(tmp_path: Path) -> None:
    fetch(FileServer(FILES), tmp_path)
    server = FileServer(FILES)
    assert fetch(server, tmp_path) == FILES
    assert server.sent == 0


def test_a_link_that_expired_is_renewed(tmp_path: Path) -> None:
    server = FileServer({"a": DATA})
    server.stale = 2
    assert fetch(server, tmp_path) == {"a": DATA}
    assert server.listed == 3


def test_a_link_that_never_works_is_a_refusal(tmp_path: Path) -> None:
    server = FileServer({"a": DATA})
    server.stale = 100
    with pytest.raises(Refused):
        fetch(server, tmp_path)


def test_a_file_longer_than_said_is_refused_and_not_kept(tmp_path: Path) -> None:
    class Liar(FileServer):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            answer = super().__call__(request)
            if request.url.path.endswith("/artifacts"):
                return httpx.Response(200, json={"artifacts": [{"name": "a", "size": 10, "url": "http://f.test/0"}]})
            return answer

    with pytest.raises(TransferFailed, match="longer than the server says"):
        fetch(Liar({"a": DATA}), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "", "nul\0"])
def test_a_hostile_server_cannot_write_outside_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(TransferFailed, match="leads out of the folder"):
        fetch(FileServer({"good": b"x", name: b"evil"}), tmp_path / "out")
    assert list(tmp_path.rglob("*")) == []


def test_fetching_gives_up_when_no_byte_comes(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="while fetching a"):
        fetch(FileServer({"a": DATA}, cuts=[0] * 10_000), tmp_path, patience_s=0.05)


# Remembering


def test_what_was_begun_is_remembered_until_it_is_done(tmp_path: Path, survey: Path) -> None:
    memory, print_ = Memory(tmp_path / "state"), fingerprint("http://volcal.test", {"pre": survey}, {})
    assert memory.recall(print_) is None
    assert memory.keep(print_, "7")
    assert Memory(tmp_path / "state").recall(print_) == "7"
    memory.forget(print_)
    assert memory.recall(print_) is None


def test_another_file_option_or_server_is_another_submission(survey: Path) -> None:
    prints = {
        fingerprint("http://a", {"pre": survey}, {}),
        fingerprint("http://b", {"pre": survey}, {}),
        fingerprint("http://a", {"pre": survey}, {"cell": 1}),
        fingerprint("http://a", {"post": survey}, {}),
    }
    survey.write_bytes(DATA[:-1] + b"x")
    prints.add(fingerprint("http://a", {"pre": survey}, {}))
    assert len(prints) == 5


def test_a_memory_that_cannot_be_kept_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    memory = Memory(tmp_path / "file" / "state")
    assert not memory.keep("a", "7")
    memory.forget("a")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "a.json").write_text("{broken")
    assert Memory(tmp_path / "state").recall("a") is None
