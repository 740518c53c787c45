"""nginx as the compose file has it lets through what it should, sets what it must, and keeps the inside inside."""

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.base import wait_for
from tests.servers.minio import Minio
from tests.servers.nginx import Nginx

pytestmark = pytest.mark.service


class Upstream:
    """Remembers what it was asked; answers 200, or streams two pieces with a pause that the test ends."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.went_on = threading.Event()
        self.arrived = 0
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                request = {"method": self.command, "path": self.path, "headers": dict(self.headers), "body": b""}
                upstream.requests.append(request)
                if "chunked" in self.headers.get("Transfer-Encoding", ""):
                    while size := int(self.rfile.readline(), 16):
                        request["body"] += self.rfile.read(size + 2)[:-2]
                        upstream.arrived = len(request["body"])
                    self.rfile.readline()
                else:
                    left = int(self.headers.get("Content-Length", 0))
                    while left and (data := self.rfile.read1(left)):
                        request["body"] += data
                        upstream.arrived = len(request["body"])
                        left -= len(data)
                self.send_response(200)
                if self.path == "/events":
                    self.send_header("Content-Type", "text/event-stream")
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    self.wfile.write(b"5\r\nfirst\r\n")
                    upstream.went_on.wait(20)
                    self.wfile.write(b"6\r\nsecond\r\n0\r\n\r\n")
                    return
                self.send_header("Content-Length", "2")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(b"ok")

            do_GET = do_POST = do_PATCH = do_HEAD = do_OPTIONS = do_PUT = do_DELETE = answer  # noqa: N815

            def log_message(self, *_arguments: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_arguments: object) -> None:
                pass  # tests cut connections

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.port = self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Upstream, Upstream]]:
    both = Upstream(), Upstream()
    yield both
    for server in both:
        server.close()


@pytest.fixture(scope="module")
def nginx(servers: tuple[Upstream, Upstream], minio: Minio) -> Iterator[Nginx]:
    gateway, uploads = servers
    with Nginx(gateway=gateway.port, tusd=uploads.port, store=minio.port) as nginx:
        yield nginx


@pytest.fixture
def gateway(servers: tuple[Upstream, Upstream]) -> Upstream:
    servers[0].requests.clear()
    return servers[0]


@pytest.fixture
def uploads(servers: tuple[Upstream, Upstream]) -> Upstream:
    servers[1].requests.clear()
    servers[1].arrived = 0
    return servers[1]


def test_each_path_goes_where_it_belongs(nginx: Nginx, gateway: Upstream, uploads: Upstream) -> None:
    for path in ("/", "/api/v1/tasks", "/docs", "/query_task?id=1", "/filesystem", "/api/v1/tasks/1%2F2?a=b%20c"):
        assert httpx.get(nginx.url + path).text == "ok"
    for path in ("/files/abc", "/files/tasks/1/in/pre-2+bWFueQ", "/files/", "/files"):
        assert httpx.patch(nginx.url + path).text == "ok"
    assert [request["path"] for request in gateway.requests] == [
        "/",
        "/api/v1/tasks",
        "/docs",
        "/query_task?id=1",
        "/filesystem",
        "/api/v1/tasks/1%2F2?a=b%20c",
    ]
    assert [request["path"] for request in uploads.requests] == [
        "/files/abc",
        "/files/tasks/1/in/pre-2+bWFueQ",
        "/files/",
        "/files",
    ]


@pytest.mark.parametrize("path", ["/tusd_hook", "/tusd_hook?secret=s", "/tusd_hook/", "/metrics", "/metrics/x"])
@pytest.mark.parametrize("disguise", ["", "/.", "//", "/x/..", "%"])
def test_what_is_for_the_inside_is_not_there_for_the_outside(
    path: str, disguise: str, nginx: Nginx, gateway: Upstream
) -> None:
    hidden = path.replace("t", "%74", 1) if disguise == "%" else disguise.removesuffix("/") + path
    answer = raw(nginx, f"POST {hidden} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b'"code":"NOT_FOUND"' in answer
    assert gateway.requests == []


def raw(nginx: Nginx, request: str) -> bytes:
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=20) as connection:
        connection.sendall(request.encode())
        data = b""
        while more := connection.recv(65536):
            data += more
        return data


@pytest.mark.parametrize("path", ["/files/", "/files", "/files//", "/files/?x=1", "/x/../files/", "/%66iles/"])
def test_nobody_opens_uploads_from_outside(path: str, nginx: Nginx, uploads: Upstream) -> None:
    for more in ("", "X-HTTP-Method-Override: PATCH\r\n"):
        request = f"POST {path} HTTP/1.1\r\nHost: x\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n"
        answer = raw(nginx, request)
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b'"code":"UPLOAD_REFUSED"' in answer
    assert uploads.requests == []


def test_a_client_that_can_only_post_still_sends_bytes(nginx: Nginx, uploads: Upstream) -> None:
    headers = {"X-HTTP-Method-Override": "PATCH"}
    assert httpx.post(f"{nginx.url}/files/abc", headers=headers, content=b"x").text == "ok"
    assert uploads.requests[0]["headers"]["X-HTTP-Method-Override"] == "PATCH"


@pytest.mark.parametrize("path", ["/api/v1/tasks/1", "/files/1"])
def test_what_a_client_says_of_itself_is_replaced(
    path: str, nginx: Nginx, gateway: Upstream, uploads: Upstream
) -> None:
    lies = {
        "X-Forwarded-For": "8.8.8.8",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "gopher",
        "X-Forwarded-Port": "1",
        "X-Forwarded-Prefix": "/evil",
        "X-Real-IP": "8.8.8.8",
        "Forwarded": "for=8.8.8.8;host=evil.example",
        "Host": "phone.example:8000",
    }
    httpx.get(nginx.url + path, headers=lies).raise_for_status()
    headers = (gateway.requests + uploads.requests)[0]["headers"]
    told = {name: value for name, value in headers.items() if name.startswith(("X-F", "X-Real", "Forw", "Host"))}
    assert told == {
        "Host": "phone.example:8000",
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Host": "phone.example:8000",
        "X-Forwarded-Proto": "http",
        "X-Real-IP": "127.0.0.1",
    }


@pytest.mark.parametrize(("given", "kept"), [("abc-1.2_3", True), ("", False), ("a b", False), ("x" * 65, False)])
def test_a_request_has_an_id_which_a_client_may_give(given: str, kept: bool, nginx: Nginx, gateway: Upstream) -> None:
    httpx.get(nginx.url, headers={"X-Request-ID": given}).raise_for_status()
    passed = gateway.requests[0]["headers"]["X-Request-ID"]
    assert (passed == given) if kept else len(passed) == 32
    line = wait_for(lambda: next((found for found in lines(nginx) if found["request_id"] == passed), None), "the line")
    assert (line["method"], line["path"], line["status"], line["client"]) == ("GET", "/", 200, "127.0.0.1")


def lines(nginx: Nginx) -> list[dict[str, Any]]:
    return [json.loads(line) for line in nginx.log.read_text().splitlines() if line.startswith("{")]


def test_the_log_tells_neither_queries_nor_whole_upload_urls(nginx: Nginx) -> None:
    httpx.get(f"{nginx.url}/api/v1/tasks?sig=hush")
    httpx.head(f"{nginx.url}/files/tasks/1/in/pre-hush+hush")
    wait_for(lambda: any(line["path"] == "/files/***" for line in lines(nginx)), "the line")
    assert "hush" not in nginx.log.read_text()


def test_tls_works_with_the_certificate_that_is_there(nginx: Nginx, gateway: Upstream) -> None:
    trusting = ssl.create_default_context(cafile=str(nginx.certificate))
    assert httpx.get(f"{nginx.tls_url}/docs", verify=trusting).text == "ok"
    assert gateway.requests[0]["headers"]["X-Forwarded-Proto"] == "https"
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    assert httpx.get(f"{nginx.tls_url}/docs", verify=trusting).text == "ok"


def test_an_upload_goes_on_as_it_comes_and_what_came_before_a_cut_arrives(nginx: Nginx, uploads: Upstream) -> None:
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=20) as phone:
        phone.sendall(b"PATCH /files/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n" + bytes(300_000))
        wait_for(lambda: uploads.arrived == 300_000, "the first bytes", 20)


def test_bodies_without_a_length_arrive_whole(nginx: Nginx, uploads: Upstream) -> None:
    pieces = iter([b"abc", b"def"])
    assert httpx.patch(f"{nginx.url}/files/1", content=pieces).text == "ok"
    assert uploads.requests[0]["body"] == b"abcdef"


def test_uploads_have_no_limit_here_and_other_bodies_have_one(
    nginx: Nginx, gateway: Upstream, uploads: Upstream
) -> None:
    assert httpx.patch(f"{nginx.url}/files/1", content=bytes(5 << 20)).text == "ok"
    assert len(uploads.requests[0]["body"]) == 5 << 20
    large = httpx.post(f"{nginx.url}/process/1", content=bytes((2 << 20) + 1))
    assert (large.status_code, large.json()["code"]) == (413, "BODY_TOO_LARGE")
    assert gateway.requests == []
    assert httpx.post(f"{nginx.url}/process/1", content=bytes(2 << 20)).text == "ok"


def test_events_come_as_they_happen(nginx: Nginx, gateway: Upstream) -> None:
    gateway.went_on.clear()
    with httpx.stream("GET", f"{nginx.url}/events", timeout=10) as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"first"
        gateway.went_on.set()
        assert next(pieces) == b"second"


def test_a_request_to_upgrade_reaches_the_gateway(nginx: Nginx, gateway: Upstream) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=10)
    connection.request("GET", "/ws", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
    connection.getresponse().read()
    connection.close()
    headers = gateway.requests[0]["headers"]
    assert (headers["Upgrade"], headers["Connection"].lower()) == ("websocket", "upgrade")


@pytest.mark.parametrize("path", ["/create_task", "/api/run-model", "/api/v1/tasks", "/api/v1/tasks/"])
def test_who_creates_tasks_too_fast_is_told_to_wait(path: str, gateway: Upstream) -> None:
    with Nginx(gateway=gateway.port, rate="1r/m", burst=2) as nginx:
        created = [httpx.post(nginx.url + path, json={}) for _ in range(5)]
        assert [answer.status_code for answer in created] == [200, 200, 200, 429, 429]
        refused = created[-1]
        assert int(refused.headers["Retry-After"]) > 0
        assert (refused.json()["code"], refused.json()["status"]) == ("TOO_MANY_REQUESTS", 429)
        assert refused.headers["Content-Type"] == "application/problem+json"
        for other in (path, "/docs", "/api/v1/tasks/1/start"):
            assert {httpx.get(nginx.url + other).status_code for _ in range(5)} == {200}
        assert {httpx.post(f"{nginx.url}/api/v1/tasks/1/start").status_code for _ in range(5)} == {200}


def test_a_gateway_that_is_away_is_a_503_that_says_when_to_come_again() -> None:
    with Nginx(gateway=9) as nginx:
        for path in ("/docs", "/files/1"):
            answer = httpx.get(nginx.url + path)
            assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
            assert int(answer.headers["Retry-After"]) > 0


def test_the_built_in_endpoint_may_receive_uploads(gateway: Upstream) -> None:
    with Nginx(gateway=gateway.port) as nginx:
        assert httpx.patch(f"{nginx.url}/files/1", content=b"x").text == "ok"
    assert gateway.requests[0]["path"] == "/files/1"


class Names:
    """A name server that knows one address, whatever it is asked for."""

    def __init__(self) -> None:
        self.address = "127.0.0.1"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    def _answer(self) -> None:
        while True:
            query, client = self._socket.recvfrom(512)
            if query == b"end":
                return
            end = query.index(b"\0", 12) + 5  # of the question: the name, its type, its class
            head = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
            record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(self.address)
            self._socket.sendto(head + query[12:end] + record, client)

    def close(self) -> None:
        self._socket.sendto(b"end", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


def test_a_gateway_that_comes_back_at_another_address_is_found(gateway: Upstream) -> None:
    names = Names()
    nginx = Nginx(gateway=gateway.port)
    nginx.variables |= {"RESOLVER": f"127.0.0.1:{names.port}", "GATEWAY": f"gateway.test:{gateway.port}"}
    names.address = "127.0.0.9"  # where nobody listens
    try:
        with nginx:
            assert httpx.get(nginx.url).status_code == 503
            names.address = "127.0.0.1"
            both = range(8)  # each of nginx's processes remembers by itself, for 5 s
            wait_for(lambda: all(httpx.get(nginx.url).is_success for _ in both), "the new address", 30)
    finally:
        names.close()


@pytest.fixture(scope="module")
def shelf(minio: Minio) -> str:
    name = minio.bucket("nginx-tests")
    client = minio.client()
    client.put_object(Bucket=name, Key="a/b c+d.html", Body=b"<p>hello", ContentType="text/html")
    client.close()
    return name


def link(minio: Minio, nginx: Nginx, bucket: str, operation: str = "get_object", endpoint: str | None = None) -> str:
    client = minio.client(endpoint or nginx.store_url)
    try:
        url: str = client.generate_presigned_url(operation, {"Bucket": bucket, "Key": "a/b c+d.html"}, ExpiresIn=60)
        return url
    finally:
        client.close()


def test_a_signed_link_works_for_whoever_has_it(minio: Minio, nginx: Nginx, shelf: str) -> None:
    answer = httpx.get(link(minio, nginx, shelf))
    assert (answer.status_code, answer.text) == (200, "<p>hello")
    assert answer.headers.get_list("X-Content-Type-Options") == ["nosniff"]
    assert answer.headers["Content-Security-Policy"].startswith("sandbox ")
    part = httpx.get(link(minio, nginx, shelf), headers={"Range": "bytes=3-4"})
    assert (part.status_code, part.text) == (206, "he")
    assert httpx.head(link(minio, nginx, shelf, "head_object")).status_code == 200
    trusting = ssl.create_default_context(cafile=str(nginx.certificate))
    by_tls = link(minio, nginx, shelf, endpoint=f"https://127.0.0.1:{nginx.store_tls_port}")
    assert httpx.get(by_tls, verify=trusting).text == "<p>hello"


def test_of_the_store_nothing_but_signed_links_is_there(minio: Minio, nginx: Nginx, shelf: str) -> None:
    good = link(minio, nginx, shelf)
    path = good.partition("?")[0]
    assert httpx.get(path).status_code == 403
    assert httpx.get(f"{nginx.store_url}/").status_code == 403
    assert httpx.get(good.replace("X-Amz-Signature=", "X-Amz-Signature=0")).status_code == 403
    assert httpx.get(good.replace("d.html", "e.html")).status_code == 403
    assert (
        httpx.get(link(minio, nginx, shelf, endpoint=minio.url).replace(minio.url, nginx.store_url)).status_code == 403
    )
    for operation, verb in (("put_object", "PUT"), ("delete_object", "DELETE")):
        signed = link(minio, nginx, shelf, operation)
        assert httpx.request(verb, signed).status_code == 403
    assert httpx.get(f"{nginx.store_url}/minio/health/live?X-Amz-Signature=1").status_code == 404
    client = minio.client(nginx.store_url)  # even the owner, with signed headers
    with pytest.raises(client.exceptions.ClientError, match="403"):
        client.list_objects_v2(Bucket=shelf)
    client.close()


def test_nginx_writes_nowhere_but_into_its_folder_and_ends_at_a_quiet_request(
    gateway: Upstream, tmp_path: Path
) -> None:
    with Nginx(gateway=gateway.port, folder=tmp_path) as nginx:
        httpx.post(f"{nginx.url}/x", content=bytes(1 << 20)).raise_for_status()
        assert "nginx.pid" in [path.name for path in tmp_path.iterdir()]
        assert nginx.process is not None
        nginx.process.send_signal(3)  # SIGQUIT: ends when all requests have
        assert nginx.process.wait(timeout=20) == 0
