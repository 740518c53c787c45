"""Uploads through nginx to tusd into S3: whatever breaks on the way, nothing is lost, and each task starts once."""

import hashlib
import io
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError, TusUploadFailed

from tests.e2e.phone import PIECE, Phone
from tests.servers.base import wait_for
from tests.servers.stack import FullStack, send
from tests.servers.tusd import Tusd

pytestmark = pytest.mark.service

MIB = 2**20
IDLE_S = 4  # more than tusd needs for its last step, also on a busy machine


@pytest.fixture(scope="module")
def stack() -> Iterator[FullStack]:
    with FullStack(lines=("tusd",), VOLCAL_TUS_IDLE_S=str(IDLE_S)) as stack:
        yield stack


def randomly(count: int) -> bytes:
    return random.Random(count).randbytes(count)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def key_of(url: str) -> str:
    """Return where the object of an upload lies, which its URL says."""
    return urlsplit(url).path.removeprefix("/files/").partition("+")[0]


def stored(stack: FullStack, url: str) -> str:
    """Return the SHA-256 of what the bucket has of an upload."""
    client = stack.minio.client()
    try:
        return sha256(client.get_object(Bucket="uploads", Key=key_of(url))["Body"].read())
    finally:
        client.close()


def upload_url(task: dict[str, Any]) -> str:
    url: str = task["uploads"]["file"]["url"]
    return url


def ran_once(stack: FullStack, task_id: str, size: int) -> None:
    """Wait for the end: one run, which saw the whole file, and one set of results."""
    task = stack.settled(task_id)
    assert (task["status"], task["attempts"], task["error"]) == ("done", 1, None)
    assert stack.results(task_id)["bytes"] == size
    assert stack.outputs(task_id) == ["1/results.json"]


def tuspy(url: str, data: bytes, **options: Any) -> Callable[[], None]:
    """Let tuspy send in the background; return what waits for its end, and raises what it raised.

    The length is told beforehand, and once: tuspy would repeat it, which tusd refuses.
    """
    failed: list[Exception] = []
    assert send(url, b"", length=len(data)).status_code == 204

    def run() -> None:
        try:
            client = TusClient("http://unused")
            client.uploader(file_stream=io.BytesIO(data), url=url, retries=60, retry_delay=0.3, **options).upload()
        except (TusCommunicationError, TusUploadFailed) as error:
            failed.append(error)

    sender = threading.Thread(target=run)
    sender.start()

    def over() -> None:
        sender.join(timeout=120)
        assert not sender.is_alive()
        assert not failed, failed

    return over


@pytest.mark.case(1)
def test_a_cloud_of_200_mb_that_is_cut_at_40_percent_goes_on_from_there_and_starts_once(stack: FullStack) -> None:
    data = randomly(200 * MIB)
    line, task = stack.lines["tusd"], stack.create()
    before = line.carried["up"]
    line.reset_after(len(data) * 2 // 5)
    over = tuspy(upload_url(task), data, chunk_size=len(data))
    wait_for(lambda: line.carried["up"] - before >= len(data) * 2 // 5, "the cut")
    beside_the_line = upload_url(task).replace(stack.url, f"http://127.0.0.1:{stack.tusd.port}")
    kept = wait_for(lambda: int(httpx.head(beside_the_line, timeout=30).headers.get("Upload-Offset", 0)), "what came")
    assert 0 < kept <= len(data) * 2 // 5
    assert stack.task(task["id"])["status"] == "waiting"
    line.heal()
    over()
    assert line.carried["up"] - before < len(data) * 2 // 5 + (len(data) - kept) + MIB  # nothing was sent twice
    assert stored(stack, upload_url(task)) == sha256(data)
    ran_once(stack, task["id"], len(data))


def create_at_once(stack: FullStack, http: httpx.Client, many: int, clients: ThreadPoolExecutor) -> list[Future[int]]:
    def create() -> int:
        return http.post(f"{stack.url}/api/v1/tasks", json={"pipeline": "constant"}).status_code

    return [clients.submit(create) for _ in range(many)]


@pytest.fixture
def crowd() -> Iterator[tuple[httpx.Client, int, ThreadPoolExecutor]]:
    """More clients than a gateway has threads."""
    many = 100
    limits = httpx.Limits(max_connections=many)
    with httpx.Client(timeout=120, trust_env=False, limits=limits) as http, ThreadPoolExecutor(many) as clients:
        yield http, many, clients


def test_many_who_create_tasks_at_once_are_all_served(stack: FullStack, crowd: Any) -> None:
    # tusd asks the gateway back about each upload: requests must not wait for each other's threads.
    assert {future.result() for future in create_at_once(stack, *crowd)} == {201}


def test_while_many_wait_for_a_tusd_that_stands_still_everybody_else_is_answered(stack: FullStack, crowd: Any) -> None:
    task = stack.submit()
    with stack.frozen(stack.tusd):
        waiting = create_at_once(stack, *crowd)
        wait_for(lambda: all(future.running() for future in waiting), "everybody to be under way")
        assert stack.settled(task)["status"] == "done"
        assert not any(future.done() for future in waiting)
    assert {future.result() for future in waiting} <= {201, 503}


@pytest.mark.case(2)
@pytest.mark.parametrize(("size", "override"), [(0, False), (2 * PIECE, False), (2 * PIECE + 12_345, True)])
def test_the_mobile_apps_flow_with_deferred_length_starts_its_task_once(
    stack: FullStack, size: int, override: bool
) -> None:
    data, task = randomly(size), stack.create()
    phone = Phone(upload_url(task), override=override)
    assert phone.head().headers["upload-defer-length"] == "1"
    requests = phone.upload(data)
    assert requests == size // PIECE + 1  # whole pieces are followed by an empty one
    assert stored(stack, upload_url(task)) == sha256(data)
    ran_once(stack, task["id"], size)


@pytest.mark.case(5)
def test_a_file_that_finishes_while_the_gateway_is_away_starts_its_task_all_the_same(stack: FullStack) -> None:
    data, task = randomly(6 * MIB), stack.create()
    with stack.away(stack.gateway):
        said = send(upload_url(task), data).status_code
        assert said in {204, 500}  # tusd's own answer if pre-finish cannot be told: the bytes are safe
        assert send(upload_url(task), b"", offset=len(data)).status_code == 204  # as clients go on
        started = "SELECT started_at FROM tasks WHERE id = %s"
        wait_for(lambda: stack.sql(started, task["id"])[0][0], "the reaper")
    ran_once(stack, task["id"], len(data))


@pytest.mark.case(5)
def test_a_file_whose_last_step_died_with_tusd_is_completed_by_the_reaper(stack: FullStack) -> None:
    data, task = randomly(6 * MIB + 100), stack.create()
    url = upload_url(task)
    assert send(url, data[: 6 * MIB], length=len(data)).status_code == 204
    handle = urlsplit(url).path.removeprefix("/files/")
    key, _, multipart = handle.partition("+")
    client = stack.minio.client()
    with stack.away(stack.tusd):  # after the last part went out, before the parts were put together
        last = {"Bucket": "uploads", "Key": key, "UploadId": multipart, "PartNumber": 2, "Body": data[6 * MIB :]}
        client.upload_part(**last)
        client.close()
        ran_once(stack, task["id"], len(data))
    assert stored(stack, url) == sha256(data)
    assert send(url, b"", offset=len(data)).status_code == 204  # the client asks again, and is told that it is done


def test_a_client_goes_on_when_tusd_is_killed_in_the_middle_and_started_again(stack: FullStack) -> None:
    data, task = randomly(24 * MIB), stack.create()
    line = stack.lines["tusd"]
    line.slow(bytes_per_s=16e6)
    before = line.carried["up"]
    over = tuspy(upload_url(task), data, chunk_size=6 * MIB)
    wait_for(lambda: line.carried["up"] - before > 9 * MIB, "a part and a half")
    with stack.away(stack.tusd):
        line.heal()
    over()
    assert line.carried["up"] - before < 33 * MIB + MIB  # no more than the piece that was under way is sent again
    assert stored(stack, upload_url(task)) == sha256(data)
    ran_once(stack, task["id"], len(data))


def test_a_client_goes_on_when_nginx_is_killed_in_the_middle_and_started_again(stack: FullStack) -> None:
    data, task = randomly(24 * MIB), stack.create()
    line = stack.lines["tusd"]
    line.slow(bytes_per_s=16e6)
    before = line.carried["up"]
    over = tuspy(upload_url(task), data, chunk_size=len(data))
    wait_for(lambda: line.carried["up"] - before > 9 * MIB, "a third of it")
    with stack.away(stack.nginx):
        line.heal()
    over()
    assert stored(stack, upload_url(task)) == sha256(data)
    ran_once(stack, task["id"], len(data))


@pytest.mark.case(10)
def test_a_file_larger_than_allowed_is_refused_when_it_is_declared(stack: FullStack) -> None:
    task = stack.create()
    assert send(upload_url(task), b"x", length=(1 << 30) + 1).status_code in {400, 413}
    assert Phone(upload_url(task)).head().offset == 0
    assert stack.task(task["id"])["status"] == "waiting"
    assert send(upload_url(task), b"12345").status_code == 204  # one that fits is still welcome
    ran_once(stack, task["id"], 5)


@pytest.mark.case(10)
def test_a_file_larger_than_allowed_is_stopped_while_it_streams_and_leaves_nothing_behind(stack: FullStack) -> None:
    task = stack.create()
    url = upload_url(task)
    hooks = f"{stack.gateway.url}/tusd_hook?secret={stack.environment['VOLCAL_HOOK_SECRET']}"
    with Tusd(stack.minio, hooks=hooks, options=(f"-max-size={MIB}",)) as small:
        phone = Phone(url.replace(stack.url, f"http://127.0.0.1:{small.port}"))
        assert phone.patch(randomly(3 * MIB), 0).status == 413
    assert stack.task(task["id"])["status"] == "waiting"
    httpx.post(f"{stack.url}/api/v1/tasks/{task['id']}/cancel", timeout=30).raise_for_status()
    assert stack.objects(f"tasks/{task['id']}/") == []
    assert send(url, b"12345").status_code == 404


TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
ABUSES: dict[str, tuple[str, str, dict[str, str], bytes]] = {
    "download": ("GET", "", {}, b""),
    "delete": ("DELETE", "", TUS, b""),
    "delete by override": ("POST", "", {**TUS, "X-HTTP-Method-Override": "DELETE"}, b""),
    "replace": ("PATCH", "", {**TUS, "Upload-Offset": "0", "Upload-Length": "5"}, b"other"),
    "append": ("PATCH", "", {**TUS, "Upload-Offset": "5"}, b"more!"),
    "lengthen": ("PATCH", "", {**TUS, "Upload-Offset": "5", "Upload-Length": "10"}, b"more!"),
    "look into the notes": ("GET", ".info", {}, b""),
}


@pytest.fixture(scope="module")
def finished(stack: FullStack) -> str:
    """The upload URL of a task that is done."""
    task = stack.create()
    assert send(upload_url(task), b"12345").status_code == 204
    ran_once(stack, task["id"], 5)
    return upload_url(task)


@pytest.mark.case(11)
@pytest.mark.parametrize("how", ABUSES)
def test_the_url_of_a_finished_upload_neither_gives_its_bytes_nor_takes_others(
    stack: FullStack, finished: str, how: str
) -> None:
    method, more, headers, content = ABUSES[how]
    answer = httpx.request(method, finished + more, headers=headers, content=content, timeout=30, trust_env=False)
    is_told_that_all_is_there = (answer.status_code, answer.headers.get("Upload-Offset")) == (204, "5")
    assert answer.status_code in {400, 403, 404, 405, 409} or is_told_that_all_is_there
    assert b"12345" not in answer.content
    assert stored(stack, finished) == sha256(b"12345")


@pytest.mark.case(11)
def test_nobody_writes_elsewhere_by_a_twisted_upload_url(stack: FullStack, finished: str) -> None:
    victim, task = key_of(finished), stack.create()
    own = urlsplit(upload_url(task)).path.removeprefix("/files/")
    key, _, multipart = own.partition("+")
    result = f"tasks/{victim.split('/')[1]}/out/1/results.json"
    before = etags(stack)
    twisted = [
        *(f"{wanted}+{rest}" for wanted in (victim, result, f"{key}.info") for rest in (multipart, "x", "")),
        *(f"{dots}/{own}" for dots in ("..", "%2e%2e", "..%2f..", "x/../../files")),
        *(f"{key}+{dots}" for dots in ("../x", "%2e%2e%2f", "+", f"{multipart}%00", f"{multipart}/../{multipart}x")),
        f"{key}%2F..%2F..%2Fout%2F1%2Fresults.json+{multipart}",
        victim,
        result,
        "..",
        "%00",
        "+",
    ]
    address = urlsplit(stack.url)
    assert address.port is not None
    for path in twisted:
        answer = Phone(f"http://127.0.0.1:{address.port}/files/{path}").patch(b"evil!", 0, 5)
        assert answer.status >= 400 or answer.status == 307, (path, answer)  # sent on to the plain path, at most
        assert b"Traceback" not in answer.body
    assert etags(stack) == before
    assert stack.task(task["id"])["uploads"]["file"]["offset"] == 0


def etags(stack: FullStack) -> dict[str, str]:
    """Return what is in the bucket, and a mark of each object's content."""
    client = stack.minio.client()
    try:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="uploads")
        return {found["Key"]: found["ETag"] for page in pages for found in page.get("Contents", [])}
    finally:
        client.close()


@pytest.mark.case(12)
def test_an_abandoned_task_is_killed_with_a_reason_and_leaves_no_byte(stack: FullStack) -> None:
    task, never_touched = stack.create(), stack.create()
    url = upload_url(task)
    assert send(url, randomly(6 * MIB), length=20 * MIB).status_code == 204
    assert send(url, b"a little more", offset=6 * MIB).status_code == 204  # too little for a part
    prefix = f"tasks/{task['id']}/"
    assert {key.rpartition(".")[2] for key in stack.objects(prefix)} == {"info", "part"}
    with stack.part("beat", VOLCAL_UPLOAD_TTL_S="2"):
        for task_id in (task["id"], never_touched["id"]):
            end = stack.settled(task_id)
            assert (end["status"], end["attempts"], end["error"]["code"]) == ("killed", 0, "EXPIRED")
        wait_for(lambda: stack.objects(prefix) == [], "nothing to be left")
    key, _, multipart = urlsplit(url).path.removeprefix("/files/").partition("+")
    client = stack.minio.client()
    with pytest.raises(client.exceptions.ClientError, match="NoSuchUpload"):
        client.list_parts(Bucket="uploads", Key=key, UploadId=multipart)
    client.close()
    told = httpx.get(f"{stack.url}/query_task/{task['id']}", timeout=30)
    assert (told.status_code, told.json()["status"]) == (200, "killed")
    assert told.json()["error"]
    assert send(url, b"late", offset=6 * MIB + 13).status_code == 404


@pytest.mark.case(12)
def test_a_task_whose_files_still_come_is_not_abandoned_however_long_it_takes(stack: FullStack) -> None:
    data, task = randomly(25 * MIB), stack.create()
    line = stack.lines["tusd"]
    line.slow(bytes_per_s=5e6)  # 5 s, and a part a second
    with stack.part("beat", VOLCAL_UPLOAD_TTL_S="3"):
        over = tuspy(upload_url(task), data, chunk_size=5 * MIB)
        over()
    line.heal()
    ran_once(stack, task["id"], len(data))
