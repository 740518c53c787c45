"""Guessing, changing and redirecting: nobody gets at another's files or at what is inside, on the full stack.

There are no keys yet that tell clients apart: whoever reaches the service may list its tasks, and whoever has a task's
id may do all with it. What is held here is that neither ids nor links can be guessed, that a link is for one file, and
that no callback leads inside.
"""

import contextlib
import json
import re
import socket
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID, uuid4

import httpx
import pytest

from tests.faults.conftest import Service
from tests.receivers import Receiver, Request, answer, dead_port
from tests.servers.base import wait_for
from tests.servers.stack import HOOK_SECRET, FullStack, send

pytestmark = pytest.mark.service

QUARTER_OF_AN_HOUR = 900
SECRET = "known to the service and its receivers"
ATTEMPTS = 3
SENT_AT_MOST = 64 << 20  # what the kernel's buffers take of an answer that nobody reads


class Receivers:
    """One receiver of each kind, to which loopback is open, and one inside, to which it is not."""

    def __init__(self) -> None:
        self.flooded = 0
        self.good, self.inside = Receiver(), Receiver()
        self.endless, self.slow = Receiver(self._flood), Receiver(self._trickle)
        self.redirecting = Receiver(answer(307, Location=self.inside.url))

    def _flood(self, connection: socket.socket, _request: Request) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        while not self.endless.closing.is_set():
            self.flooded += connection.send(bytes(65536))

    def _trickle(self, connection: socket.socket, _request: Request) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.slow.closing.wait(0.1):
            connection.sendall(b"x")


@pytest.fixture(scope="module")
def receivers() -> Iterator[Receivers]:
    found = Receivers()
    with found.good, found.inside, found.endless, found.slow, found.redirecting:
        yield found


@pytest.fixture(scope="module")
def dead() -> Iterator[int]:
    with dead_port() as port:
        yield port


@pytest.fixture(scope="module")
def stack(receivers: Receivers, dead: int) -> Iterator[FullStack]:
    opened = (receivers.good, receivers.endless, receivers.slow, receivers.redirecting)
    with FullStack(
        VOLCAL_FETCH_ALLOW=",".join([*(one.authority for one in opened), f"127.0.0.1:{dead}"]),
        VOLCAL_WEBHOOK_SECRET=SECRET,
        VOLCAL_CALLBACK_TIMEOUT_S="2",
        VOLCAL_CALLBACK_RETRY_S="0.2",
        VOLCAL_CALLBACK_ATTEMPTS=str(ATTEMPTS),
    ) as stack:
        yield stack


def ask(verb: str, url: str, **options: Any) -> httpx.Response:
    return httpx.request(verb, url, timeout=30, trust_env=False, **options)


def get(url: str) -> tuple[int, str]:
    """Ask for an address exactly as it is written, which clients of HTTP tidy up; return the status and the body."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", url.removeprefix(f"http://{parts.netloc}"))
        said = connection.getresponse()
        return said.status, said.read().decode()


class Owned:
    """A task that is done, the keys of its files and a link to its result."""

    def __init__(self, stack: FullStack) -> None:
        self.id = stack.submit()
        assert stack.settled(self.id)["status"] == "done"
        (self.upload,) = stack.objects(f"tasks/{self.id}/in/")[:1]
        self.result = f"tasks/{self.id}/out/1/results.json"
        (artifact,) = ask("GET", f"{stack.url}/api/v1/tasks/{self.id}/artifacts").json()["artifacts"]
        self.link: str = artifact["url"]


@pytest.fixture(scope="module")
def mine(stack: FullStack) -> Owned:
    return Owned(stack)


@pytest.fixture(scope="module")
def theirs(stack: FullStack) -> Owned:
    client = stack.minio.client()
    client.create_bucket(Bucket="other")
    client.put_object(Bucket="other", Key="a", Body=b'{"answer": 42}')
    client.close()
    return Owned(stack)


@pytest.mark.case(28)
def test_a_link_is_for_reading_one_file_for_a_quarter_of_an_hour(stack: FullStack, mine: Owned) -> None:
    parts = urlsplit(mine.link)
    assert parts.path == f"/uploads/{mine.result}"
    assert int(parse_qs(parts.query)["X-Amz-Expires"][0]) <= QUARTER_OF_AN_HOUR
    before = stack.objects()
    for host in (stack.nginx.store_url, stack.minio.url):  # S3 itself would refuse what nginx refuses first
        url = mine.link.replace(stack.nginx.store_url, host)
        headers = {"Host": parts.netloc}
        assert ask("GET", url, headers=headers).json()["answer"] == 42
        for verb in ("PUT", "DELETE", "POST", "PATCH", "HEAD"):
            refused = ask(verb, url, headers=headers, content=b"" if verb in ("HEAD", "DELETE") else b"<x/>")
            assert refused.status_code in (400, 403, 405), (host, verb)
    assert stack.objects() == before
    assert ask("GET", mine.link).json()["answer"] == 42


REACHES = [
    "another task", "what was uploaded", "a picture", "longer", "later", "the bucket", "the bucket, with the query",
    "what is being uploaded", "versions", "rights", "another type", "another bucket", "all buckets", "up and down",
    "up and down, encoded", "nothing signed", "an empty signature", "a made-up signature", "two signatures",
]  # fmt: skip


def changed(link: str, how: str, mine: Owned, theirs: Owned) -> str:
    """Return a link that was changed to reach further."""
    path, _, query = link.partition("?")
    base = path.partition("/uploads/")[0]
    date = parse_qs(query)["X-Amz-Date"][0]
    own = mine.result.rpartition("/")[0]
    return {
        "another task": link.replace(mine.id, theirs.id),
        "what was uploaded": link.replace(mine.result, mine.upload),
        "a picture": link.replace("results.json", "hulls/h001.png"),
        "longer": link.replace("X-Amz-Expires=900", "X-Amz-Expires=604800"),
        "later": link.replace(date, date[:4] + "1231T235959Z"),
        "the bucket": f"{base}/uploads/?list-type=2&X-Amz-Signature=0",
        "the bucket, with the query": f"{base}/uploads?list-type=2&prefix=tasks/&{query}",
        "what is being uploaded": f"{base}/uploads?uploads&{query}",
        "versions": f"{base}/uploads?versions&{query}",
        "rights": f"{path}?acl&{query}",
        "another type": f"{link}&response-content-type=text/html",
        "another bucket": f"{base}/other/a?{query}",
        "all buckets": f"{base}/?{query}",
        "up and down": f"{base}/uploads/{own}/../../../{theirs.id}/out/1/results.json?{query}",
        "up and down, encoded": f"{base}/uploads/{own}%2F..%2F..%2F..%2F{theirs.id}%2Fout%2F1%2Fresults.json?{query}",
        "nothing signed": path,
        "an empty signature": f"{path}?X-Amz-Signature=",
        "a made-up signature": re.sub("X-Amz-Signature=.{64}", f"X-Amz-Signature={'0' * 64}", link),
        "two signatures": f"{link.replace(mine.id, theirs.id)}&X-Amz-Signature={'0' * 64}",
    }[how]


@pytest.mark.case(28)
@pytest.mark.parametrize("how", REACHES)
def test_a_link_that_was_changed_to_reach_further_reaches_nothing(
    stack: FullStack, mine: Owned, theirs: Owned, how: str
) -> None:
    url = changed(mine.link, how, mine, theirs)
    assert url != mine.link
    status, said = get(url)
    assert status in (400, 403, 404)
    assert '"answer"' not in said  # what both results hold
    assert theirs.upload not in said
    assert "<Name>" not in said  # of a bucket


@pytest.mark.case(28)
def test_the_owner_of_the_store_does_nothing_from_outside(stack: FullStack, mine: Owned) -> None:
    """Whoever has the keys of the store still may not list, write or delete by the public port."""
    client = stack.minio.client(stack.nginx.store_url)
    mutations = {"put_object": "PUT", "delete_object": "DELETE"}
    for operation, verb in mutations.items():
        url = client.generate_presigned_url(operation, {"Bucket": "uploads", "Key": mine.result})
        assert ask(verb, url).status_code == 403
    for call in (client.list_buckets, lambda: client.list_objects_v2(Bucket="uploads")):
        with pytest.raises(client.exceptions.ClientError, match="403"):
            call()
    client.close()
    assert ask("GET", mine.link).status_code == 200


@pytest.mark.case(28)
def test_what_is_asked_of_a_guessed_task_is_not_there_whatever_is_asked(stack: FullStack, theirs: Owned) -> None:
    number = UUID(theirs.id).int
    paths: dict[str, dict[str, Any]] = ask("GET", f"{stack.url}/openapi.json").json()["paths"]
    asked = [(verb, path) for path, verbs in paths.items() if "{task_id}" in path for verb in verbs]
    assert len(asked) >= 10
    for guess in (uuid4(), UUID(int=number ^ 1), UUID(int=number + (1 << 100))):
        for verb, path in asked:
            url = stack.url + path.format(task_id=guess, label="file", name="results.json", output_id="results")
            refused = ask(verb.upper(), url)
            assert refused.status_code == 404, (verb, path)
            assert theirs.id not in refused.text
    assert stack.task(theirs.id)["status"] == "done"


@pytest.mark.case(28)
def test_a_task_leads_to_no_file_of_another(stack: FullStack, mine: Owned, theirs: Owned) -> None:
    there = f"../../{theirs.id}/out/1/results.json"
    for name in (theirs.result, there, f"1/../../{there}", "hulls/h001.png", mine.upload, "../../in"):
        for written in (name, quote(name, safe=""), quote(name, safe="").replace(".", "%2e")):
            assert get(f"{stack.url}/api/v1/tasks/{mine.id}/artifacts/{written}")[0] in (404, 422), written
    for key in (theirs.result, theirs.upload, "../secret"):
        later = int(time.time()) + 60
        assert get(f"{stack.url}/objects/{key}?expires={later}&sig={'0' * 64}")[0] == 404
    assert ask("GET", f"{stack.url}/files/{quote(theirs.upload)}").status_code in (403, 404, 405)


@pytest.mark.case(28)
def test_ids_and_upload_urls_are_random(stack: FullStack) -> None:
    created = [ask("POST", f"{stack.url}/create_task").json() for _ in range(2)]
    assert {UUID(task["id"]).version for task in created} == {4}  # 122 random bits
    tokens = [
        url.partition("+")[0].rpartition(f"{label}-")[2] for t in created for label, url in t["upload_urls"].items()
    ]
    assert all(re.fullmatch("[A-Za-z0-9_-]{32}", token) for token in tokens)  # 192 random bits
    assert len({token[:8] for token in tokens}) == len(tokens)  # nothing in them counts up


@pytest.mark.case(28)
def test_the_list_is_short_and_tells_no_secret(stack: FullStack, receivers: Receivers) -> None:
    body = {"pipeline": "constant", "callback_url": f"{receivers.good.url}/?token=hush"}
    assert ask("POST", f"{stack.url}/api/v1/tasks", json=body).status_code == 201
    for limit in (-1, 0, 201, 10**9):
        assert ask("GET", f"{stack.url}/api/v1/tasks?limit={limit}").status_code == 422
    for cursor in ("x", urlsafe_b64encode(b"' OR 1=1 --").decode(), "A" * 4000):
        assert ask("GET", f"{stack.url}/api/v1/tasks", params={"cursor": cursor}).json()["code"] == "CURSOR_INVALID"
    listed = ask("GET", f"{stack.url}/api/v1/tasks")
    assert 0 < len(listed.json()["tasks"]) <= 50
    for secret in ("/files/", "X-Amz", "tasks/", "hush", "callback"):
        assert secret not in listed.text


@pytest.mark.case(28)
def test_a_link_of_the_embedded_mode_is_for_one_file_and_get_too(service: Service) -> None:
    mine, theirs = service.submit(), service.submit()
    assert {service.settled(task)["status"] for task in (mine, theirs)} == {"done"}
    (artifact,) = ask("GET", f"{service.url}/api/v1/tasks/{mine}/artifacts").json()["artifacts"]
    link = artifact["url"]
    expires = int(parse_qs(urlsplit(link).query)["expires"][0])
    assert expires - time.time() <= QUARTER_OF_AN_HOUR
    for verb in ("PUT", "DELETE", "POST", "PATCH"):
        assert ask(verb, link).status_code == 405
    upload = next((service.data / "objects" / "tasks" / theirs / "in").iterdir()).name
    for reaching in (
        link.replace(mine, theirs),
        link.replace(f"expires={expires}", f"expires={expires + 1}"),
        link.replace(f"tasks/{mine}/out/1/results.json", f"tasks/{theirs}/in/{upload}"),
        link.replace(f"tasks/{mine}", f"tasks/{mine}/../{theirs}"),
        link.replace(f"tasks/{mine}", f"tasks/{mine}/%2e%2e/{theirs}"),
        link.partition("?")[0],
        link.partition("objects/")[0] + "objects/",
        f"{service.url}/objects/..%2f..%2fvolcal.db",
    ):
        assert get(reaching)[0] in (403, 404), reaching
    assert ask("GET", link).json()["answer"] == 42


def submit(stack: FullStack, url: str) -> httpx.Response:
    return ask("POST", f"{stack.url}/api/v1/tasks", json={"pipeline": "constant", "callback_url": url})


@pytest.mark.case(30)
def test_no_callback_leads_to_a_part_of_the_stack_or_to_the_clouds_credentials(stack: FullStack) -> None:
    before = stack.sql("SELECT count(*) FROM tasks")
    ports = (stack.broker.port, stack.postgres.port, stack.minio.port, stack.tusd.port, stack.gateway.port)
    hook = f"127.0.0.1:{stack.gateway.port}/tusd_hook?secret={HOOK_SECRET}"
    inside = [
        *(f"http://127.0.0.1:{port}/" for port in (*ports, stack.nginx.port, stack.nginx.store_port)),
        *(f"http://{host}:{stack.broker.port}/" for host in ("localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]")),  # noqa: S104
        *(f"http://{host}:{stack.broker.port}/" for host in ("2130706433", "0x7f000001", "127.1", "redis")),
        *(f"http://{hook}", f"https://user:password@{hook}", "file:///etc/passwd"),
        *(
            "http://169.254.169.254/latest/meta-data/",
            "http://[fd00:ec2::254]/",
            "http://10.0.0.1/",
            "http://[fe80::1]/",
        ),
        *(f"gopher://127.0.0.1:{stack.broker.port}/_FLUSHALL", f"redis://127.0.0.1:{stack.broker.port}/"),
    ]
    for url in inside:
        refused = submit(stack, url)
        assert (refused.status_code, refused.json()["code"]) == (422, "URL_REFUSED"), url
    assert stack.sql("SELECT count(*) FROM tasks") == before


def delivery(stack: FullStack, task_id: str, state: str) -> dict[str, Any]:
    """Wait until the one delivery of a task has come to a state."""

    def look() -> dict[str, Any] | None:
        listed = ask("GET", f"{stack.url}/api/v1/tasks/{task_id}/deliveries").json()["deliveries"]
        assert len(listed) <= 1
        return next((found for found in listed if found["state"] == state), None)

    found: dict[str, Any] = wait_for(look, f"a delivery that is {state}")
    return found


def peak_mib(stack: FullStack) -> float:
    """Return the most memory that beat, which calls the receivers, ever held, MiB."""
    assert stack.beat.process is not None
    status = Path(f"/proc/{stack.beat.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@pytest.mark.case(30)
def test_receivers_that_are_dead_slow_endless_or_lead_inside_cost_attempts_and_no_task(
    stack: FullStack, receivers: Receivers, dead: int
) -> None:
    before = peak_mib(stack)
    urls = {
        "dead": f"http://127.0.0.1:{dead}/",
        "slow": receivers.slow.url,
        "inside": receivers.redirecting.url,
        "endless": receivers.endless.url,
        "good": receivers.good.url,
    }
    tasks = {}
    for kind, url in urls.items():
        task = submit(stack, url).raise_for_status().json()
        assert send(task["uploads"]["file"]["url"], b"12345").status_code == 204
        tasks[kind] = task["id"]
    for kind in ("good", "endless"):  # the others hold up nobody
        told = delivery(stack, tasks[kind], "delivered")
        assert [attempt["status"] for attempt in told["attempts"]] == [200]
    for kind in ("dead", "slow", "inside"):
        told = delivery(stack, tasks[kind], "failed")
        assert [attempt["status"] for attempt in told["attempts"]] == [None] * ATTEMPTS
        assert all(attempt["error"] for attempt in told["attempts"])
        assert told["due_at"] is None
    assert {stack.settled(task)["status"] for task in tasks.values()} == {"done"}
    assert receivers.inside.requests == []
    assert len(receivers.redirecting.requests) == ATTEMPTS
    assert receivers.flooded < SENT_AT_MOST
    assert peak_mib(stack) - before < 64  # MiB; ten gigabytes were offered


@pytest.mark.case(30)
def test_what_a_receiver_hears_is_signed_by_the_documents_and_no_replay_passes(
    stack: FullStack, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = submit(stack, f"{receivers.good.url}/signed").raise_for_status().json()
    assert send(task["uploads"]["file"]["url"], b"12345").status_code == 204
    told = delivery(stack, task["id"], "delivered")
    (request,) = [one for one in receivers.good.requests if one.line == "POST /signed HTTP/1.1"]
    documents = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", documents, re.DOTALL) if "is_genuine" in block]
    receiving: dict[str, Any] = {}
    exec(code, receiving)  # noqa: S102  (what receivers copy from there)
    headers = {name: request.headers[name.lower()] for name in ("X-Volcal-Timestamp", "X-Volcal-Signature")}
    assert receiving["is_genuine"](SECRET, headers, request.body)
    assert not receiving["is_genuine"]("another secret", headers, request.body)
    assert not receiving["is_genuine"](SECRET, headers, request.body.replace(b"done", b"gone"))
    fresh = {**headers, "X-Volcal-Timestamp": str(int(headers["X-Volcal-Timestamp"]) + 1)}
    assert not receiving["is_genuine"](SECRET, fresh, request.body)
    replayed = time.time() + 301
    monkeypatch.setattr(time, "time", lambda: replayed)
    assert not receiving["is_genuine"](SECRET, headers, request.body)
    said = json.loads(request.body)
    assert (said["id"], said["delivery"], said["event"]) == (task["id"], told["id"], "task.done")
    links = json.dumps(said["links"])
    assert stack.url in links
    assert "X-Amz" not in links  # a body may lie in somebody's log for long
