"""Does the gate lead only where one may go, and only those who know the password?"""

import base64
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import httpx
import pytest

from app.outbound import AllowList
from app.outbound.gate import open_gate

pytestmark = pytest.mark.service


class Hello(BaseHTTPRequestHandler):
    """Answers with what it was asked, and redirects from /away."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        if self.path.startswith("/away?"):
            self.send_response(302)
            self.send_header("Location", self.path.partition("?")[2])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        told = f"{self.command} {self.path} {sorted(name.lower() for name in self.headers)}".encode() + body
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_POST = do_GET  # noqa: N815


@contextmanager
def hello() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = Thread(target=partial(server.serve_forever, 0.02))
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def inside() -> Iterator[str]:
    """A server that nobody opened."""
    with hello() as where:
        yield where


@pytest.fixture
def opened() -> Iterator[str]:
    with hello() as where:
        yield where


@pytest.fixture
def gate(opened: str) -> Iterator[str]:
    with open_gate(AllowList.of(opened)) as url:
        yield url


def through(gate: str) -> httpx.Client:
    return httpx.Client(proxy=gate, trust_env=False, follow_redirects=True, timeout=20)


def raw(gate: str, request: bytes) -> bytes:
    """Send bytes to the gate; return all that comes back."""
    address = urlsplit(gate)
    with socket.create_connection(("127.0.0.1", address.port or 0), timeout=20) as line:
        line.sendall(request)
        answer = b""
        while piece := line.recv(65536):
            answer += piece
        return answer


def known(gate: str) -> bytes:
    address = urlsplit(gate)
    word = base64.b64encode(f"{address.username}:{address.password}".encode())
    return b"Proxy-Authorization: Basic " + word + b"\r\n"


def test_what_is_open_is_reached_with_its_body_and_without_the_password(gate: str, opened: str) -> None:
    with through(gate) as client:
        answer = client.post(f"http://{opened}/search?x=1", content=b"#body#")
    assert answer.status_code == 200
    assert answer.text.startswith("POST /search?x=1 ")
    assert answer.text.endswith("#body#")
    assert "proxy-authorization" not in answer.text
    tunnel = raw(gate, f"CONNECT {opened} HTTP/1.1\r\n".encode() + known(gate) + b"\r\nGET /x HTTP/1.0\r\n\r\n")
    assert tunnel.startswith(b"HTTP/1.1 200")
    assert b"GET /x" in tunnel


def test_what_lies_inside_is_not_reached_by_any_road(gate: str, opened: str, inside: str) -> None:
    with through(gate) as client:
        assert client.get(f"http://{inside}/").status_code == 403
        assert client.get(f"http://{opened}/away?http://{inside}/").status_code == 403
    assert raw(gate, f"CONNECT {inside} HTTP/1.1\r\n".encode() + known(gate) + b"\r\n").startswith(b"HTTP/1.1 403")


def test_a_name_that_leads_inside_is_not_followed(inside: str) -> None:
    port = inside.partition(":")[2]
    with open_gate(AllowList(), lambda _host, _port: ["127.0.0.1"]) as gate, through(gate) as client:
        assert client.get(f"http://catalogue.example.com:{port}/").status_code == 403


def test_who_does_not_know_the_password_gets_nowhere(gate: str, opened: str) -> None:
    wrong = gate.replace(urlsplit(gate).password or "", "wrong")
    with through(wrong) as client:
        assert client.get(f"http://{opened}/").status_code == 407
    assert b"407" in raw(gate, f"CONNECT {opened} HTTP/1.1\r\n\r\n".encode())


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET ftp://example.com/ HTTP/1.1", b"403"),
        ("GET https://example.com/ HTTP/1.1", b"400"),
        ("GET / HTTP/1.1", b"403"),
        ("nonsense", b"400"),
        ("CONNECT user@example.com:443 HTTP/1.1", b"403"),
        ("CONNECT 2130706433:443 HTTP/1.1", b"403"),
    ],
)
def test_what_is_no_plain_request_is_refused(gate: str, request_line: str, status: bytes) -> None:
    answer = raw(gate, request_line.encode() + b"\r\n" + known(gate) + b"\r\n")
    assert answer.split(b" ", 2)[1] == status


def test_a_head_without_end_is_cut_off(gate: str) -> None:
    assert raw(gate, b"GET /" + b"x" * 200_000)[:12] in {b"HTTP/1.1 400", b""}


def test_a_host_that_takes_no_connection_or_has_no_name_just_now_is_said() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{unused.getsockname()[1]}"
        with open_gate(AllowList.of(where)) as gate, through(gate) as client:
            assert client.get(f"http://{where}/").status_code == 502

    def fails(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "not now")

    with open_gate(AllowList(), fails) as gate, through(gate) as client:
        assert client.get("http://catalogue.example.com/").status_code == 502


def test_a_closed_gate_lets_nobody_through(opened: str) -> None:
    with open_gate(AllowList.of(opened)) as gate:
        pass
    with through(gate) as client, pytest.raises(httpx.TransportError):
        client.get(f"http://{opened}/")
