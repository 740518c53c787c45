"""What a line may do to an upload: kept open, pipelined, half closed, cut, refused half-way, behind a proxy."""

import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Gateway, Slot, Survey

pytestmark = pytest.mark.service
TOTAL = 3_000_017
CHUNK = 4096


class Lent:
    """A connection's reader, lent to one answer after another: what one of them reads ahead is the next one's."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def makefile(self, *_: object) -> "Lent":
        return self

    def close(self) -> None:
        """An answer closes what it has read to its end."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


class Line:
    """One connection, on which requests are sent as bytes."""

    def __init__(self, slot: "Slot", port: int | None = None) -> None:
        parts = urlsplit(slot.url)
        self._path = parts.path
        self.socket = socket.create_connection(("127.0.0.1", port or parts.port or 0), timeout=30)
        self._reader = self.socket.makefile("rb")

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self.socket.close()

    def head(self, method: str = "HEAD", **headers: object) -> bytes:
        said = {"Host": "x", "Tus-Resumable": "1.0.0"} | {k.replace("_", "-"): v for k, v in headers.items()}
        lines = [f"{method} {self._path} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def patch(self, offset: int, size: int | None, **headers: object) -> bytes:
        """Return the head of a PATCH; without a size its body comes in chunks."""
        how = {"Transfer_Encoding": "chunked"} if size is None else {"Content_Length": size}
        return self.head(
            "PATCH", Upload_Offset=offset, Content_Type="application/offset+octet-stream", **how, **headers
        )

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def answer(self, method: str = "PATCH") -> tuple[int, dict[str, str]]:
        response = HTTPResponse(Lent(self._reader), method=method)  # type: ignore[arg-type]
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        response.read()
        return response.status, headers

    def offset(self) -> int:
        self.send(self.head())
        return int(self.answer("HEAD")[1]["upload-offset"])


def chunks(data: bytes, size: int = CHUNK) -> bytes:
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def framed(data: bytes, how: str) -> bytes:
    return data if how == "whole" else chunks(data) + b"0\r\n\r\n"


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in 30 s"
        time.sleep(0.02)


@pytest.fixture
def data(survey: "Survey") -> bytes:
    return survey.data[:TOTAL]


both = pytest.mark.parametrize("how", ["whole", "chunked"])


@both
def test_a_line_carries_one_request_after_another(shared_gateway: "Gateway", data: bytes, how: str) -> None:
    slot = shared_gateway.slot()
    with Line(slot) as line:
        for start in range(0, TOTAL, 1_000_000):
            piece = data[start : start + 1_000_000]
            size = len(piece) if how == "whole" else None
            line.send(line.patch(start, size, Upload_Length=TOTAL), framed(piece, how))
            assert line.answer()[0] == 204
            assert line.offset() == start + len(piece)
    assert shared_gateway.stored(slot) == data


@both
def test_requests_may_follow_without_waiting_for_answers(shared_gateway: "Gateway", data: bytes, how: str) -> None:
    slot = shared_gateway.slot()
    middle = 2_000_000
    with Line(slot) as line:
        sizes = (middle, TOTAL - middle) if how == "whole" else (None, None)
        requests = [
            line.patch(0, sizes[0], Upload_Length=TOTAL) + framed(data[:middle], how) + line.head(),
            line.patch(middle, sizes[1]) + framed(data[middle:], how) + line.head(),
        ]
        sending = threading.Thread(target=line.send, args=requests)
        sending.start()
        answers = [line.answer(method) for method in ("PATCH", "HEAD", "PATCH", "HEAD")]
        sending.join()
    assert [status for status, _ in answers] == [204, 200, 204, 200]
    assert [int(headers["upload-offset"]) for _, headers in answers] == [middle, middle, TOTAL, TOTAL]
    assert shared_gateway.stored(slot) == data


def test_a_client_that_asks_first_is_told_to_continue(shared_gateway: "Gateway", data: bytes) -> None:
    slot = shared_gateway.slot()
    with Line(slot) as line:
        line.send(line.patch(0, TOTAL, Upload_Length=TOTAL, Expect="100-continue"))
        assert line.socket.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        line.send(data)
        assert line.answer()[0] == 204
    assert shared_gateway.stored(slot) == data


def test_a_client_that_asks_first_is_refused_without_sending(shared_gateway: "Gateway") -> None:
    with Line(shared_gateway.slot()) as line:
        line.send(line.patch(7, TOTAL, Expect="100-continue"))
        assert line.answer()[0] == 409


@both
@pytest.mark.parametrize("ending", ["closed", "half closed", "reset"])
def test_what_came_before_a_cut_is_kept(shared_gateway: "Gateway", data: bytes, how: str, ending: str) -> None:
    slot, cut = shared_gateway.slot(), 2_000_000
    with Line(slot) as line, Line(slot) as looking:
        line.send(line.patch(0, TOTAL if how == "whole" else None, Upload_Length=TOTAL))
        line.send(data[:cut] if how == "whole" else chunks(data[:cut]))
        if ending == "half closed":
            line.socket.shutdown(socket.SHUT_WR)
        elif ending == "reset":
            until(lambda: looking.offset() == cut)  # what lies in the kernel dies with a reset
            line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if ending != "half closed":
            line.socket.close()
        until(lambda: looking.offset() == cut)
        looking.send(looking.patch(cut, TOTAL - cut), data[cut:])
        assert looking.answer()[0] == 204
    assert shared_gateway.stored(slot) == data


@both
def test_a_line_whose_request_was_taken_over_goes_on_after_its_body(
    shared_gateway: "Gateway", data: bytes, how: str
) -> None:
    slot, cut = shared_gateway.slot(), 1_500_000
    with Line(slot) as stalled, Line(slot) as line:
        stalled.send(stalled.patch(0, TOTAL if how == "whole" else None, Upload_Length=TOTAL))
        stalled.send(data[:cut] if how == "whole" else chunks(data[:cut]))
        until(lambda: line.offset() == cut)
        line.send(line.patch(cut, TOTAL - cut), data[cut:])
        assert line.answer()[0] == 204
        assert stalled.answer()[0] == 423
        stalled.send(data[cut:] if how == "whole" else chunks(data[cut:]) + b"0\r\n\r\n")
        assert stalled.offset() == TOTAL
    assert shared_gateway.stored(slot) == data


def test_of_a_chunked_body_that_runs_over_nothing_is_kept_and_the_line_goes_on(
    shared_gateway: "Gateway", data: bytes
) -> None:
    slot = shared_gateway.slot()
    with Line(slot) as line:
        line.send(line.patch(0, None, Upload_Length=1_000_000), chunks(data), b"0\r\n\r\n")
        assert line.answer()[0] == 413
        assert line.offset() == 0


def test_chunks_of_single_bytes_are_bytes_too(shared_gateway: "Gateway", data: bytes) -> None:
    slot, few = shared_gateway.slot(), data[:50_000]
    with Line(slot) as line:
        line.send(line.patch(0, None, Upload_Length=len(few)), chunks(few, 1), b"0\r\n\r\n")
        assert line.answer()[0] == 204
    assert shared_gateway.stored(slot) == few


def test_a_client_that_sends_a_byte_now_and_then_is_written_down(shared_gateway: "Gateway", data: bytes) -> None:
    slot = shared_gateway.slot()
    with Line(slot) as line, Line(slot) as looking:
        line.send(line.patch(0, 5, Upload_Length=5))
        for number in range(5):
            until(lambda number=number: looking.offset() == number)  # type: ignore[misc]
            line.send(data[number : number + 1])
        assert line.answer()[0] == 204
    assert shared_gateway.stored(slot) == data[:5]


@both
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_gateway_that_ends_keeps_what_came(gateway: "Gateway", data: bytes, how: str, number: int) -> None:
    slot, cut = gateway.slot(), 2_500_000
    with Line(slot) as line, Line(slot) as looking:
        line.send(line.patch(0, TOTAL if how == "whole" else None, Upload_Length=TOTAL))
        line.send(data[:cut] if how == "whole" else chunks(data[:cut]))
        until(lambda: looking.offset() == cut)
        gateway.end(number)
    gateway.start()
    with Line(slot) as line:
        assert line.offset() == cut
        line.send(line.patch(cut, TOTAL - cut), data[cut:])
        assert line.answer()[0] == 204
    assert gateway.stored(slot) == data


NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream gateway {{ server 127.0.0.1:{behind}; keepalive 1; }}
  server {{
    listen 127.0.0.1:{port}; client_max_body_size 0; proxy_request_buffering off;
    location / {{ proxy_pass http://gateway; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


@pytest.fixture
def proxy(shared_gateway: "Gateway", tmp_path: Path) -> Iterator[int]:
    """The port of an nginx before the gateway, which keeps its one line to it open."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(NGINX.format(folder=tmp_path, behind=shared_gateway.port, port=port))
    process = subprocess.Popen([nginx, "-c", configuration, "-p", tmp_path], stderr=subprocess.DEVNULL)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=30)


@both
def test_a_proxy_that_keeps_its_line_open_carries_many_uploads(
    shared_gateway: "Gateway", proxy: int, data: bytes, how: str
) -> None:
    for _ in range(3):
        slot = shared_gateway.slot()
        with Line(slot, proxy) as line:
            for start in range(0, TOTAL, 1_000_000):
                piece = data[start : start + 1_000_000]
                size = len(piece) if how == "whole" else None
                line.send(line.patch(start, size, Upload_Length=TOTAL), framed(piece, how))
                assert line.answer()[0] == 204
                assert line.offset() == start + len(piece)
        assert shared_gateway.stored(slot) == data


def test_memory_stays_flat_however_many_send(gateway: "Gateway", survey: "Survey") -> None:
    def upload(slot: "Slot") -> None:
        with Line(slot) as line:
            line.send(line.patch(0, len(survey.data), Upload_Length=len(survey.data)), survey.data)
            assert line.answer()[0] == 204

    upload(gateway.slot())
    before = gateway.memory_mb()
    senders = [threading.Thread(target=upload, args=(gateway.slot(),)) for _ in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert gateway.memory_mb() - before < 40  # two buffers of 1 MiB for each; they sent 176 MB
