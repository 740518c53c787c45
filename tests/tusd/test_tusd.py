"""tusd, or what stands in for it, does with uploads, hooks and objects what the gateway relies on.

With ``VOLCAL_TEST_TUSD=/path/to/tusd`` the same tests hold for a real one.
"""

import base64
import http.client
import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.servers.base import Server, wait_for
from tests.servers.cut import Cut
from tests.servers.minio import Minio
from tests.servers.tusd import EVENTS, Tusd

pytestmark = pytest.mark.service

RECORDED = Path(__file__).parents[1] / "data" / "tusd_hooks"
KEY = "tasks/11111111-1111-1111-1111-111111111111/in/pre-0001"
MIB = 1 << 20


class Hooks:
    """A gateway that remembers what it was told, and answers as it is told to."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.answers: dict[str, Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]] = {}
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                said["path"], said["authorization"] = self.path, self.headers["Authorization"]
                hooks.told.append(said)
                status, answer = hooks.answers.get(said["Type"], lambda _: (200, {}))(said)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/tusd_hook?secret=s"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [said["Event"] for said in self.told if said["Type"] == kind]

    def wait(self, kind: str, count: int = 1) -> dict[str, Any]:
        wait_for(lambda: len(self.of(kind)) >= count, f"{count} hooks {kind}", 20)
        return self.of(kind)[count - 1]


@pytest.fixture(scope="module")
def shared_hooks() -> Iterator[Hooks]:
    hooks = Hooks()
    yield hooks
    hooks.close()


@pytest.fixture(scope="module")
def bucket(minio: Minio) -> str:
    return minio.bucket("tusd-tests")


@pytest.fixture(scope="module")
def line(minio: Minio) -> Iterator[Cut]:
    with Cut(minio.port) as line:
        yield line


@pytest.fixture(scope="module")
def tusd(minio: Minio, bucket: str, shared_hooks: Hooks, line: Cut) -> Iterator[Tusd]:
    quick = (
        "-progress-hooks-interval=200ms",
        "-max-size",
        str(32 * MIB),
        f"-hooks-enabled-events={EVENTS},post-create",
    )
    with Tusd(minio, hooks=shared_hooks.url, port=line.port, bucket=bucket, options=quick) as tusd:
        yield tusd


@pytest.fixture
def hooks(shared_hooks: Hooks, line: Cut) -> Hooks:
    line.heal()
    shared_hooks.told.clear()
    shared_hooks.answers.clear()
    return shared_hooks


class Objects:
    """What lies in the bucket."""

    def __init__(self, minio: Minio, bucket: str) -> None:
        self.client, self.bucket = minio.client(), bucket

    def names(self, key: str) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=key).get("Contents", [])
        return [each["Key"].removeprefix(key) for each in found]

    def read(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def parts(self, upload_id: str) -> list[int]:
        key, _, multipart = upload_id.partition("+")
        found = self.client.list_parts(Bucket=self.bucket, Key=key, UploadId=multipart).get("Parts", [])
        return [part["Size"] for part in found]


@pytest.fixture
def objects(minio: Minio, bucket: str) -> Iterator[Objects]:
    objects = Objects(minio, bucket)
    yield objects
    objects.client.close()


def metadata(**values: str) -> str:
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items())


def create(tusd: Tusd, **headers: str) -> httpx.Response:
    given = {"Tus-Resumable": "1.0.0", "Upload-Metadata": metadata(filename="pre.laz", task_id="t", label="pre")}
    lengths = {} if {"Upload-Length", "Upload_Length"} & set(headers) else {"Upload-Defer-Length": "1"}
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{tusd.url}/", headers={**given, **lengths, **more}, timeout=30)


def opened(tusd: Tusd, hooks: Hooks, key: str = KEY, **headers: str) -> str:
    """Open an upload as the gateway does; return its URL."""
    hooks.answers["pre-create"] = lambda _: (200, {"ChangeFileInfo": {"ID": key}})
    answer = create(tusd, **headers)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["Location"])


def patch(url: str, content: Any, offset: int = 0, **headers: str) -> httpx.Response:
    given = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": str(offset),
        "Content-Type": "application/offset+octet-stream",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return httpx.patch(url, content=content, headers=given, timeout=60)


def head(url: str) -> httpx.Response:
    return httpx.head(url, headers={"Tus-Resumable": "1.0.0"}, timeout=30)


def unique(name: str) -> str:
    return f"tasks/{os.urandom(8).hex()}/in/{name}"


def shape(value: Any) -> Any:
    """Return the names and kinds in a document, not its values."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    return type(value).__name__


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RECORDED / name).read_text())["body"]
    return found


def test_the_whole_life_of_an_upload_is_as_recorded(tusd: Tusd, hooks: Hooks, objects: Objects) -> None:
    key, data = unique("pre-1"), os.urandom(6 * MIB)
    url = opened(tusd, hooks, key)
    upload_id = url.removeprefix(f"{tusd.url}/")
    assert upload_id.startswith(f"{key}+")
    assert objects.names(key) == [".info"]
    empty = head(url)
    assert (empty.status_code, empty.headers["Upload-Offset"], empty.headers["Upload-Defer-Length"]) == (200, "0", "1")
    assert (empty.headers["Cache-Control"], empty.headers["Tus-Resumable"]) == ("no-store", "1.0.0")
    assert sorted(empty.headers["Upload-Metadata"].split(",")) == sorted(
        metadata(filename="pre.laz", task_id="t", label="pre").split(",")
    )
    assert "Upload-Length" not in empty.headers

    first = patch(url, data[: 5 * MIB], Upload_Length=str(len(data)))
    assert (first.status_code, first.headers["Upload-Offset"]) == (204, str(5 * MIB))
    some = head(url)
    assert (some.headers["Upload-Offset"], some.headers["Upload-Length"]) == (str(5 * MIB), str(len(data)))
    assert patch(url, data[5 * MIB :], 5 * MIB).status_code == 204
    assert objects.read(key) == data
    assert objects.names(key) == ["", ".info"]
    finished = hooks.wait("post-finish")
    for kind in ("pre-finish", "post-finish"):
        expected = shape(recorded("s3_deferred__06_post-finish.json")["Event"]["Upload"])
        assert shape(hooks.of(kind)[0]["Upload"]) == expected
    assert finished["Upload"] == {
        "ID": upload_id,
        "Size": len(data),
        "SizeIsDeferred": False,
        "Offset": len(data),
        "MetaData": {"filename": "pre.laz", "task_id": "t", "label": "pre"},
        "IsPartial": False,
        "IsFinal": False,
        "PartialUploads": None,
        "Storage": {"Type": "s3store", "Bucket": objects.bucket, "Key": key},
    }
    assert (finished["HTTPRequest"]["Method"], finished["HTTPRequest"]["URI"]) == ("PATCH", urlsplit(url).path)


def test_the_first_question_tells_the_request_and_no_id(tusd: Tusd, hooks: Hooks) -> None:
    opened(tusd, hooks, unique("pre"), **{"x-volcal-grant": "123:abc"})
    [asked] = hooks.of("pre-create")
    assert hooks.told[0]["path"] == "/tusd_hook?secret=s"
    assert shape(asked["Upload"]) == shape(recorded("s3_deferred__01_pre-create.json")["Event"]["Upload"])
    assert (asked["Upload"]["ID"], asked["Upload"]["Storage"]) == ("", None)
    request = asked["HTTPRequest"]
    assert (request["Method"], request["URI"]) == ("POST", "/files/")
    assert request["Header"]["X-Volcal-Grant"] == ["123:abc"]
    assert request["Header"]["Host"] == [f"127.0.0.1:{tusd.port}"]
    assert request["RemoteAddr"].startswith("127.0.0.1:")
    created = hooks.wait("post-create")
    assert created["Upload"]["Storage"]["Type"] == "s3store"


def test_the_note_in_the_store_is_what_the_gateway_reads(tusd: Tusd, hooks: Hooks, objects: Objects) -> None:
    key = unique("pre")
    url = opened(tusd, hooks, key)
    assert patch(url, b"123", Upload_Length="10").status_code == 204
    info = json.loads(objects.read(f"{key}.info"))
    assert (info["Size"], info["SizeIsDeferred"], info["ID"]) == (10, False, url.removeprefix(f"{tusd.url}/"))
    assert shape(info) == shape(recorded("s3_deferred__02_post-create.json")["Event"]["Upload"])
    assert objects.read(f"{key}.part") == b"123"


def test_an_upload_that_the_gateway_refuses_is_not_made(tusd: Tusd, hooks: Hooks, objects: Objects) -> None:
    answer = {"StatusCode": 403, "Body": '{"code":"NO"}', "Header": {"Content-Type": "application/json", "X-Why": "so"}}
    hooks.answers["pre-create"] = lambda _: (200, {"RejectUpload": True, "HTTPResponse": answer})
    refused = create(tusd)
    assert (refused.status_code, refused.text, refused.headers["X-Why"]) == (403, '{"code":"NO"}', "so")
    assert refused.headers["Content-Type"] == "application/json"
    assert "Location" not in refused.headers
    hooks.answers["pre-create"] = lambda _: (200, {"RejectUpload": True})
    assert create(tusd).status_code == 400


def test_a_gateway_that_fails_is_asked_three_times_and_then_nothing_is_made(tusd: Tusd, hooks: Hooks) -> None:
    hooks.answers["pre-create"] = lambda _: (503, {})
    assert create(tusd).status_code == 500
    assert len(hooks.of("pre-create")) == 3


def test_a_gateway_that_says_no_by_status_is_asked_once(tusd: Tusd, hooks: Hooks) -> None:
    hooks.answers["pre-create"] = lambda _: (401, {})
    assert create(tusd).status_code == 500
    assert len(hooks.of("pre-create")) == 1


def test_a_notice_is_tried_again_until_it_is_taken(tusd: Tusd, hooks: Hooks) -> None:
    hooks.answers["post-finish"] = lambda _: (200 if len(hooks.of("post-finish")) == 3 else 500, {})
    url = opened(tusd, hooks, unique("pre"))
    assert patch(url, b"12345", Upload_Length="5").status_code == 204
    hooks.wait("post-finish", 3)


def test_an_answer_of_pre_finish_reaches_the_client(tusd: Tusd, hooks: Hooks, objects: Objects) -> None:
    key = unique("pre")
    url = opened(tusd, hooks, key)
    hooks.answers["pre-finish"] = lambda _: (
        200,
        {"HTTPResponse": {"StatusCode": 200, "Body": "ok", "Header": {"X-A": "b"}}},
    )
    done = patch(url, b"12345", Upload_Length="5")
    assert (done.status_code, done.text, done.headers["X-A"]) == (200, "ok", "b")


def test_a_pre_finish_that_fails_is_a_500_and_then_nothing_fires_again(
    tusd: Tusd, hooks: Hooks, objects: Objects
) -> None:
    key = unique("pre")
    url = opened(tusd, hooks, key)
    hooks.answers["pre-finish"] = lambda _: (400, {})
    assert patch(url, b"12345", Upload_Length="5").status_code == 500
    assert objects.read(key) == b"12345"
    assert patch(url, b"", 5).status_code == 204
    assert len(hooks.of("pre-finish")) == 1
    assert key not in [each["Upload"]["Storage"]["Key"] for each in hooks.of("post-finish")]


def test_small_pieces_are_kept_beside_until_they_make_a_part(tusd: Tusd, hooks: Hooks, objects: Objects) -> None:
    key, data = unique("pre"), os.urandom(12 * MIB)
    url = opened(tusd, hooks, key)
    upload_id = url.removeprefix(f"{tusd.url}/")
    assert patch(url, data[: 3 * MIB], Upload_Length=str(len(data))).status_code == 204
    assert (objects.names(key), objects.parts(upload_id)) == ([".info", ".part"], [])
    assert patch(url, data[3 * MIB : 9 * MIB], 3 * MIB).headers["Upload-Offset"] == str(9 * MIB)
    assert (objects.names(key), objects.parts(upload_id)) == ([".info"], [9 * MIB])
    assert patch(url, data[9 * MIB :], 9 * MIB).status_code == 204
    assert objects.read(key) == data


def test_the_length_is_declared_once(tusd: Tusd, hooks: Hooks) -> None:
    url = opened(tusd, hooks, unique("pre"))
    assert patch(url, b"123", Upload_Length="10").status_code == 204
    again = patch(url, b"456", 3, Upload_Length="10")
    assert (again.status_code, again.text) == (
        400,
        "ERR_INVALID_UPLOAD_LENGTH: missing or invalid Upload-Length header\n",
    )
    assert head(url).headers["Upload-Offset"] == "3"


def test_the_length_may_come_with_the_last_bytes(tusd: Tusd, hooks: Hooks, objects: Objects) -> None:
    key = unique("pre")
    url = opened(tusd, hooks, key)
    assert patch(url, b"123").status_code == 204
    assert head(url).headers["Upload-Defer-Length"] == "1"
    assert patch(url, b"45", 3, Upload_Length="5").status_code == 204
    assert objects.read(key) == b"12345"


@pytest.mark.parametrize("late", [False, True])
def test_an_empty_file_is_a_file(late: bool, tusd: Tusd, hooks: Hooks, objects: Objects) -> None:
    key = unique("pre")
    url = opened(tusd, hooks, key) if late else opened(tusd, hooks, key, Upload_Length="0")
    if late:
        assert patch(url, b"", Upload_Length="0").status_code == 204
    assert objects.read(key) == b""
    assert hooks.wait("post-finish")["Upload"]["Size"] == 0


def test_bytes_may_come_with_the_creation(tusd: Tusd, hooks: Hooks, objects: Objects) -> None:
    key = unique("pre")
    hooks.answers["pre-create"] = lambda _: (200, {"ChangeFileInfo": {"ID": key}})
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": "5",
        "Content-Type": "application/offset+octet-stream",
    }
    answer = httpx.post(f"{tusd.url}/", headers=headers, content=b"12345", timeout=30)
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, "5")
    assert objects.read(key) == b"12345"


def test_bodies_without_a_length_are_taken_up_to_the_files_end(tusd: Tusd, hooks: Hooks, objects: Objects) -> None:
    key = unique("pre")
    url = opened(tusd, hooks, key)
    assert patch(url, iter([b"12", b"345"]), Upload_Length="7").headers["Upload-Offset"] == "5"
    over = patch(url, iter([b"67", b"8"]), 5)
    assert over.status_code == 413
    assert objects.read(key) == b"1234567"


@pytest.mark.parametrize(
    ("offset", "headers", "status"),
    [
        (1, {}, 409),
        (0, {"Upload_Offset": "-1"}, 400),
        (0, {"Upload_Offset": "x"}, 400),
        (0, {"Content_Type": "text/plain"}, 400),
        (0, {"Tus_Resumable": "0.2.2"}, 412),
        (0, {"Upload_Length": "3"}, 413),
        (0, {"Upload_Length": "-1"}, 400),
        (0, {"Upload_Length": str(33 * MIB)}, 400),
    ],
)
def test_what_is_wrong_with_a_patch_is_said_and_nothing_is_kept(
    offset: int, headers: dict[str, str], status: int, tusd: Tusd, hooks: Hooks
) -> None:
    url = opened(tusd, hooks, unique("pre"))
    assert patch(url, b"12345", offset, **headers).status_code == status
    assert head(url).headers["Upload-Offset"] == "0"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upload_Length": str(33 * MIB)}, 413),
        ({"Upload_Length": "x"}, 400),
        ({"Upload_Defer_Length": "2"}, 400),
        ({"Upload_Length": "5", "Upload_Defer_Length": "1"}, 400),
        ({"Tus_Resumable": ""}, 412),
    ],
)
def test_what_is_wrong_with_a_creation_is_said_before_the_gateway_is_asked(
    headers: dict[str, str], status: int, tusd: Tusd, hooks: Hooks
) -> None:
    assert create(tusd, **headers).status_code == status
    assert hooks.told == []


def test_nobody_downloads_deletes_or_lists(tusd: Tusd, hooks: Hooks, objects: Objects) -> None:
    key = unique("pre")
    url = opened(tusd, hooks, key)
    assert patch(url, b"12345", Upload_Length="5").status_code == 204
    tus = {"Tus-Resumable": "1.0.0"}
    assert httpx.get(url).status_code == 405
    assert httpx.delete(url, headers=tus).status_code == 405
    assert httpx.get(f"{tusd.url}/").status_code == 405
    assert httpx.post(url, headers={**tus, "X-HTTP-Method-Override": "DELETE"}).status_code == 405
    assert objects.read(key) == b"12345"


@pytest.mark.parametrize("upload_id", ["x", "a+b", "tasks/t/in/pre+nobody", "+", "a+"])
def test_an_upload_that_nobody_opened_is_not_found(upload_id: str, tusd: Tusd, hooks: Hooks) -> None:
    url = f"{tusd.url}/{upload_id}"
    assert head(url).status_code == 404
    assert patch(url, b"1").status_code == 404


def test_an_upload_whose_note_is_gone_takes_nothing_more(tusd: Tusd, hooks: Hooks, objects: Objects) -> None:
    key = unique("pre")
    url = opened(tusd, hooks, key)
    objects.client.delete_object(Bucket=objects.bucket, Key=f"{key}.info")
    assert patch(url, b"12345", Upload_Length="5").status_code == 404


def test_a_finished_file_is_not_replaced(tusd: Tusd, hooks: Hooks, objects: Objects) -> None:
    key = unique("pre")
    url = opened(tusd, hooks, key)
    assert patch(url, b"12345", Upload_Length="5").status_code == 204
    assert head(url).headers["Upload-Offset"] == "5"
    assert patch(url, b"67890", 0).status_code == 409
    assert patch(url, b"67890", 5).status_code == 204  # says yes, and takes nothing
    assert objects.read(key) == b"12345"


def test_the_method_may_be_in_a_header(tusd: Tusd, hooks: Hooks, objects: Objects) -> None:
    key = unique("pre")
    url = opened(tusd, hooks, key)
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Upload-Length": "5",
        "Content-Type": "application/offset+octet-stream",
        "X-HTTP-Method-Override": "PATCH",
    }
    assert httpx.post(url, headers=headers, content=b"12345").status_code == 204
    assert objects.read(key) == b"12345"


def test_what_came_before_a_cut_is_kept(tusd: Tusd, hooks: Hooks, objects: Objects) -> None:
    key, data = unique("pre"), os.urandom(8 * MIB)
    url = opened(tusd, hooks, key)
    with Cut(tusd.port) as bad:
        bad.reset_after(6 * MIB)
        with pytest.raises(httpx.TransportError):
            patch(url.replace(f":{tusd.port}/", f":{bad.port}/"), data, Upload_Length=str(len(data)))
    kept = int(head(url).headers["Upload-Offset"])
    assert 0 < kept <= 6 * MIB  # a reset throws away what the server had not yet read
    assert patch(url, data[kept:], kept).status_code == 204
    assert objects.read(key) == data


def test_a_newer_request_ends_an_older_one_that_stalls(tusd: Tusd, hooks: Hooks, objects: Objects) -> None:
    key = unique("pre")
    url = opened(tusd, hooks, key)
    stalled = http.client.HTTPConnection("127.0.0.1", tusd.port, timeout=30)
    stalled.putrequest("PATCH", urlsplit(url).path)
    for name, value in {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Upload-Length": "10",
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": "10",
    }.items():
        stalled.putheader(name, value)
    stalled.endheaders(b"123")
    wait_for(lambda: any(event["Upload"]["Offset"] == 3 for event in hooks.of("post-receive")), "the first bytes")
    # A real one now and then needs its network timeout, a minute, to let go of the older request: see the README.
    seen = wait_for(lambda: (answer := head(url)).is_success and answer, "the newer request", 90)
    assert seen.headers["Upload-Offset"] == "3"
    answer = stalled.getresponse()
    assert (answer.status, answer.read().partition(b":")[0]) == (400, b"ERR_UPLOAD_INTERRUPTED")
    stalled.close()
    assert patch(url, b"4567890", 3).status_code == 204
    assert objects.read(key) == b"1234567890"


def test_the_gateway_may_stop_an_upload_under_way(tusd: Tusd, hooks: Hooks, objects: Objects) -> None:
    key = unique("pre")
    url = opened(tusd, hooks, key)
    stop = {"StopUpload": True, "HTTPResponse": {"StatusCode": 410, "Body": "cancelled"}}
    hooks.answers["post-receive"] = lambda _: (200, stop)
    go = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield b"123"
        go.wait(20)

    threading.Timer(1.5, go.set).start()
    answer = patch(url, slowly(), Upload_Length="10")
    assert (answer.status_code, answer.text) == (410, "cancelled")
    assert objects.names(key) == []
    assert head(url).status_code == 404


def test_progress_is_told_while_bytes_come_and_once_at_the_end(tusd: Tusd, hooks: Hooks) -> None:
    url = opened(tusd, hooks, unique("pre"))

    def slowly() -> Iterator[bytes]:
        yield b"123"
        hooks.wait("post-receive")
        yield b"45"

    assert patch(url, slowly(), Upload_Length="5").status_code == 204
    assert hooks.wait("post-receive", 2)["Upload"]["Offset"] == 5
    first, last = hooks.of("post-receive")
    expected = shape(recorded("s3_deferred__05_post-receive.json")["Event"]["Upload"])
    assert shape(first["Upload"]) == shape(last["Upload"]) == expected
    assert (first["Upload"]["Offset"], first["Upload"]["Size"]) == (3, 5)


def test_a_store_that_is_away_is_a_500_and_the_upload_goes_on_later(
    tusd: Tusd, hooks: Hooks, line: Cut, objects: Objects
) -> None:
    key = unique("pre")
    url = opened(tusd, hooks, key)
    line.refuse()
    assert patch(url, b"12345", Upload_Length="5").status_code == 500
    assert create(tusd).status_code == 500
    line.heal()
    assert patch(url, b"12345", Upload_Length="5").status_code == 204
    assert objects.read(key) == b"12345"


def test_behind_a_proxy_the_location_is_the_proxys(tusd: Tusd, hooks: Hooks) -> None:
    proxied = {"X_Forwarded_Host": "volcal.example", "X_Forwarded_Proto": "https"}
    assert opened(tusd, hooks, unique("pre"), **proxied).startswith("https://volcal.example/files/tasks/")


@pytest.mark.parametrize("bad", ["/begins", "ends/", "a b", "ümlaut", 'quo"te'])
def test_an_id_that_makes_no_good_url_is_refused(bad: str, tusd: Tusd, hooks: Hooks) -> None:
    hooks.answers["pre-create"] = lambda _: (200, {"ChangeFileInfo": {"ID": bad}})
    assert create(tusd).status_code == 500


def test_it_tells_what_it_can(tusd: Tusd) -> None:
    answer = httpx.options(f"{tusd.url}/")
    assert (answer.status_code, answer.headers["Tus-Version"]) == (200, "1.0.0")
    assert answer.headers["Tus-Max-Size"] == str(32 * MIB)
    needed = {"creation", "creation-with-upload", "creation-defer-length", "termination"}
    assert needed <= set(answer.headers["Tus-Extension"].split(","))


def test_a_browser_of_another_origin_is_served(tusd: Tusd, hooks: Hooks) -> None:
    url = opened(tusd, hooks, unique("pre"))
    asked = httpx.options(url, headers={"Origin": "https://a.example", "Access-Control-Request-Method": "PATCH"})
    assert asked.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert "PATCH" in asked.headers["Access-Control-Allow-Methods"]
    seen = httpx.head(url, headers={"Origin": "https://a.example", "Tus-Resumable": "1.0.0"})
    assert "Upload-Offset" in seen.headers["Access-Control-Expose-Headers"]


def test_after_kill_9_an_upload_goes_on_where_the_store_has_it(tusd: Tusd, hooks: Hooks, objects: Objects) -> None:
    key = unique("pre")
    url = opened(tusd, hooks, key)
    assert patch(url, b"123", Upload_Length="5").status_code == 204
    tusd.kill()
    tusd.start()
    assert head(url).headers["Upload-Offset"] == "3"
    assert patch(url, b"45", 3).status_code == 204
    assert objects.read(key) == b"12345"


def test_a_flag_that_it_does_not_know_is_an_error(minio: Minio, tmp_path: Path) -> None:
    server: Server = Tusd(minio, hooks="http://127.0.0.1:9/", options=("-disable-concatenation",), folder=tmp_path)
    with pytest.raises(RuntimeError), server:
        pass
    assert "flag provided but not defined: -disable-concatenation" in server.log.read_text()
