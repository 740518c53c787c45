"""Calls to hostile, slow, huge and moving servers: nothing gets inside, and each call ends in time."""

import gzip
import io
import socket
import ssl
import struct
import subprocess
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which

import pytest

from app.domain.errors import UrlRefused
from app.outbound import AllowList, FetchFailed, GuardedClient, Limits
from tests.receivers import Receiver, Request, answer, dead_port, in_turn

QUICK = Limits(max_bytes=1 << 20, total_s=3.0, idle_s=0.5, connect_s=2.0)
NAME = "hooks.example.com"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


def at(receiver: Receiver, *more: str, limits: Limits = QUICK) -> GuardedClient:
    """A client to which the receiver's port on loopback is open."""
    return GuardedClient(AllowList([receiver.authority, *more]), limits=limits)


def get(client: GuardedClient, url: str, **options: dict[str, str]) -> bytes:
    client.fetch(url, into := io.BytesIO(), **options)  # type: ignore[arg-type]
    return into.getvalue()


def test_a_file_is_fetched_as_it_is(receiver: Receiver) -> None:
    receiver.react = answer(body=b"survey", Content_Type="text/plain")
    assert get(at(receiver), f"{receiver.url}/a.las?b=c#d") == b"survey"
    (request,) = receiver.requests
    assert request.line == "GET /a.las?b=c HTTP/1.1"
    assert request.headers["host"] == receiver.authority
    assert request.headers["accept-encoding"] == "identity"


def test_a_body_is_posted_and_the_status_comes_back(receiver: Receiver) -> None:
    receiver.react = answer(202, b"never read")
    assert at(receiver).post(f"{receiver.url}/in", b"{}", headers={"X-Mine": "1", "Host": "evil"}) == 202
    (request,) = receiver.requests
    assert (request.line, request.body) == ("POST /in HTTP/1.1", b"{}")
    assert (request.headers["x-mine"], request.headers["host"]) == ("1", receiver.authority)


def test_what_is_not_open_is_never_connected_to(receiver: Receiver) -> None:
    with pytest.raises(UrlRefused):
        GuardedClient().post(receiver.url, b"")
    assert receiver.requests == []


@pytest.mark.case(30)
def test_a_name_that_moves_after_the_check_gains_nothing() -> None:
    """Each hop asks once, and connects to what was checked then."""
    with Receiver(answer(body=b"public")) as honest, Receiver(answer(body=b"secret")) as inside:
        asked: list[str] = []

        def rebinding(host: str, _port: int) -> list[str]:
            asked.append(host)
            return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

        allowed = AllowList([f"127.0.0.1:{honest.port}"])
        client = GuardedClient(allowed, resolve=rebinding, limits=QUICK)
        assert get(client, f"http://{NAME}:{honest.port}/") == b"public"
        assert asked == [NAME]
        assert honest.requests[0].headers["host"] == f"{NAME}:{honest.port}"
        with pytest.raises(UrlRefused):
            get(client, f"http://{NAME}:{honest.port}/")
        assert inside.requests == []
        assert len(honest.requests) == 1


@pytest.mark.case(30)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_the_inside_is_refused(status: int, receiver: Receiver) -> None:
    with Receiver(answer(body=b"secret")) as inside:
        for location in (inside.url, "http://169.254.169.254/latest/", "file:///etc/passwd", f"//{inside.authority}/"):
            receiver.react = answer(status, Location=location)
            with pytest.raises(UrlRefused):
                get(at(receiver), receiver.url)
        assert inside.requests == []


def test_a_redirect_to_an_open_host_is_followed(receiver: Receiver) -> None:
    with Receiver(answer(body=b"there")) as other:
        receiver.react = answer(302, Location=f"{other.url}/b")
        assert get(at(receiver, other.authority), receiver.url) == b"there"
        receiver.react = in_turn(answer(302, Location="../c?d"), answer(body=b"here"))
        assert get(at(receiver), f"{receiver.url}/a/b") == b"here"
        assert receiver.requests[-1].line == "GET /c?d HTTP/1.1"


def test_credentials_stay_with_their_host(receiver: Receiver) -> None:
    headers = {"Authorization": "Bearer secret", "Cookie": "a=b", "X-Other": "1"}
    with Receiver(answer()) as other:
        receiver.react = in_turn(answer(302, Location="/again"), answer(302, Location=other.url))
        get(at(receiver, other.authority), receiver.url, headers=headers)
        assert receiver.requests[1].headers["authorization"] == "Bearer secret"
        assert {"authorization", "cookie"} & set(other.requests[0].headers) == set()
        assert other.requests[0].headers["x-other"] == "1"


def test_a_post_follows_only_what_keeps_it_a_post(receiver: Receiver) -> None:
    with Receiver(answer(204)) as other:
        client = at(receiver, other.authority)
        receiver.react = answer(302, Location=other.url)
        assert client.post(receiver.url, b"body") == 302
        assert other.requests == []
        receiver.react = answer(307, Location=other.url)
        assert client.post(receiver.url, b"body") == 204
        assert (other.requests[0].line, other.requests[0].body) == ("POST / HTTP/1.1", b"body")


def test_redirects_in_a_circle_end(receiver: Receiver) -> None:
    receiver.react = answer(302, Location="/")
    with pytest.raises(FetchFailed) as failure:
        get(at(receiver), receiver.url)
    assert failure.value.reason == "redirects"
    assert len(receiver.requests) == 6


def flood(sent: list[int], size: int, stop: threading.Event) -> Callable[[socket.socket, Request], None]:
    def react(connection: socket.socket, _request: Request) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        while sum(sent) < size and not stop.is_set():
            connection.sendall(piece)
            sent.append(65536)

    return react


@pytest.mark.case(30)
def test_ten_gigabytes_are_cut_at_the_limit_and_never_held(receiver: Receiver) -> None:
    sent: list[int] = []
    receiver.react = flood(sent, 10 * 10**9, receiver.closing)
    tracemalloc.start()
    try:
        with (
            pytest.raises(FetchFailed) as failure,
            at(receiver, limits=Limits(max_bytes=16 << 20, total_s=60.0)).open("GET", receiver.url) as found,
        ):
            for _ in found.chunks():
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert failure.value.reason == "too_large"
    assert sum(sent) < 64 << 20  # what the kernel's buffers took beside the 16 MiB
    assert peak < 8 << 20


def test_a_body_that_says_that_it_is_too_large_is_not_read(receiver: Receiver) -> None:
    receiver.react = lambda connection, _: connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\nx"
    )
    with pytest.raises(FetchFailed, match="larger than 1048576 bytes"):
        get(at(receiver), receiver.url)


def test_an_answer_to_a_post_is_not_read_however_large(receiver: Receiver) -> None:
    sent: list[int] = []
    receiver.react = flood(sent, 10 * 10**9, receiver.closing)
    assert at(receiver).post(receiver.url, b"") == 200
    assert sum(sent) < 64 << 20


def bomb(unpacked: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([packer.compress(bytes(1 << 20)) for _ in range(unpacked >> 20)]) + packer.flush()


def test_a_bomb_is_stopped_before_it_goes_off(receiver: Receiver) -> None:
    packed = bomb(256 << 20)
    assert len(packed) < QUICK.max_bytes
    receiver.react = answer(body=packed, Content_Encoding="gzip")
    tracemalloc.start()
    try:
        with pytest.raises(FetchFailed) as failure:
            get(at(receiver), receiver.url)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert failure.value.reason == "too_large"
    assert peak < 16 << 20


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@pytest.mark.parametrize("content", [b"", b"survey", bytes(500_000)])
def test_a_compressed_body_is_unpacked(
    coding: str, pack: Callable[[bytes], bytes], content: bytes, receiver: Receiver
) -> None:
    receiver.react = answer(body=pack(content), Content_Encoding=coding)
    assert get(at(receiver), receiver.url) == content


@pytest.mark.parametrize(
    ("coding", "body"),
    [("gzip", b"no gzip"), ("gzip", gzip.compress(b"x" * 999, mtime=0)[:-9]), ("br", b"x"), ("gzip", b"")],
)
def test_a_damaged_or_foreign_packing_is_said(coding: str, body: bytes, receiver: Receiver) -> None:
    receiver.react = answer(body=body, Content_Encoding=coding)
    with pytest.raises(FetchFailed) as failure:
        get(at(receiver), receiver.url)
    assert failure.value.reason == "protocol"


def trickle(receiver: Receiver, start: bytes, piece: bytes, every_s: float) -> None:
    def react(connection: socket.socket, _request: Request) -> None:
        connection.sendall(start)
        while not receiver.closing.wait(every_s):
            connection.sendall(piece)

    receiver.react = react


@pytest.mark.case(30)
@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"", b""),
        (b"HTTP/1.1 200 OK\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"X-Slow: x\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["silent", "half-a-head", "endless-header", "many-headers", "slow-body", "slow-chunks", "always-continue"],
)
def test_a_server_that_takes_its_time_is_left(start: bytes, piece: bytes, receiver: Receiver) -> None:
    trickle(receiver, start, piece, 0.05)
    with pytest.raises(FetchFailed) as failure:
        get(at(receiver, limits=Limits(total_s=1.0, idle_s=0.4)), receiver.url)
    assert failure.value.reason == "timeout"


def test_a_server_that_is_never_idle_but_far_too_slow_is_left(receiver: Receiver) -> None:
    trickle(receiver, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x", 0.02)
    with pytest.raises(FetchFailed, match="less than 10000 bytes a second"):
        get(at(receiver, limits=Limits(total_s=60.0, idle_s=0.5, least_rate=10_000)), receiver.url)


def test_a_head_without_end_is_cut(receiver: Receiver) -> None:
    def react(connection: socket.socket, _request: Request) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not receiver.closing.is_set():
            connection.sendall(b"X-Filler: " + b"x" * 8000 + b"\r\n")

    receiver.react = react
    with pytest.raises(FetchFailed) as failure:
        get(at(receiver), receiver.url)
    assert failure.value.reason in {"protocol", "too_large"}


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"-ERR unknown command\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_not_http_or_breaks_off_is_said(said: bytes, receiver: Receiver) -> None:
    receiver.react = lambda connection, _: connection.sendall(said)
    with pytest.raises(FetchFailed) as failure:
        get(at(receiver), receiver.url)
    assert failure.value.reason == "protocol"


def test_a_connection_that_is_reset_is_said(receiver: Receiver) -> None:
    def react(connection: socket.socket, _request: Request) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    receiver.react = react
    with pytest.raises(FetchFailed) as failure:
        get(at(receiver), receiver.url)
    assert failure.value.reason == "protocol"


def test_names_are_looked_up_by_the_system(receiver: Receiver) -> None:
    client = GuardedClient(AllowList(["127.0.0.0/8", "::1"]), limits=QUICK)
    assert client.post(f"http://localhost:{receiver.port}/", b"") == 200
    assert receiver.requests[0].headers["host"] == f"localhost:{receiver.port}"


def test_a_redirect_that_is_no_url_is_refused(receiver: Receiver) -> None:
    receiver.react = lambda connection, _: connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /\xff\xfe\r\n\r\n")
    with pytest.raises(UrlRefused):
        get(at(receiver), receiver.url)


def test_a_server_that_does_not_read_is_left(receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # its backlog takes the connection, nobody the bytes
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        client = GuardedClient(AllowList(["127.0.0.1"]), limits=QUICK)
        with pytest.raises(FetchFailed) as failure:
            client.post(url, bytes(64 << 20))
    assert failure.value.reason == "timeout"


def test_a_status_that_is_no_success_is_no_file(receiver: Receiver) -> None:
    receiver.react = answer(404, b"not here")
    with pytest.raises(FetchFailed, match="answered 404"):
        get(at(receiver), receiver.url)


def test_a_dead_host_is_said() -> None:
    with dead_port() as port, pytest.raises(FetchFailed) as failure:
        get(GuardedClient(AllowList(["127.0.0.1"]), limits=QUICK), f"http://127.0.0.1:{port}/")
    assert failure.value.reason == "connect"


def test_another_address_of_a_name_is_tried(receiver: Receiver) -> None:
    client = GuardedClient(
        AllowList(["127.0.0.0/8"]), limits=QUICK, resolve=lambda _host, _port: ["127.0.0.2", "127.0.0.1"]
    )
    assert client.post(f"http://{NAME}:{receiver.port}/", b"") == 200


def test_a_look_up_that_hangs_is_not_waited_for(receiver: Receiver) -> None:
    def hangs(_host: str, _port: int) -> list[str]:
        receiver.closing.wait(30)
        return []

    client = GuardedClient(resolve=hangs, limits=Limits(connect_s=0.2))
    with pytest.raises(FetchFailed) as failure:
        client.post(f"http://{NAME}/", b"")
    assert failure.value.reason == "lookup"


def test_a_fault_of_the_resolver_is_not_hidden() -> None:
    def broken(_host: str, _port: int) -> list[str]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        GuardedClient(resolve=broken).post(f"http://{NAME}/", b"")


def test_no_proxy_is_taken_from_the_environment(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert at(receiver).post(receiver.url, b"") == 200
        assert proxy.requests == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of NAME, with its key."""
    if (openssl := which("openssl")) is None:
        pytest.skip("openssl is not installed")
    path = tmp_path_factory.mktemp("tls") / "pair.pem"
    asked = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={NAME} -addext subjectAltName=DNS:{NAME}"
    subprocess.run([openssl, *asked.split(), "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[Receiver]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with Receiver(answer(body=b"sealed"), tls=tls) as found:
        yield found


def trusting(certificate: Path, receiver: Receiver, *more: str) -> GuardedClient:
    return GuardedClient(
        AllowList([f"127.0.0.1:{receiver.port}", *more]),
        limits=QUICK,
        resolve=lambda _host, _port: ["127.0.0.1"],
        tls=ssl.create_default_context(cafile=str(certificate)),
    )


def test_the_certificate_is_checked_by_the_name_though_an_address_is_called(
    secure: Receiver, certificate: Path
) -> None:
    client = trusting(certificate, secure)
    assert get(client, f"https://{NAME}:{secure.port}/") == b"sealed"
    assert secure.requests[0].headers["host"] == f"{NAME}:{secure.port}"
    with pytest.raises(FetchFailed, match=r"certificate is not good: Hostname mismatch") as failure:
        get(client, f"https://other.example.com:{secure.port}/")
    assert failure.value.reason == "tls"


def test_a_certificate_that_nobody_vouches_for_is_refused(secure: Receiver) -> None:
    client = GuardedClient(AllowList(["127.0.0.1"]), limits=QUICK)
    with pytest.raises(FetchFailed, match=r"self.signed certificate"):
        client.post(f"https://127.0.0.1:{secure.port}/", b"")


@pytest.mark.parametrize(("said", "reason"), [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "tls"), (b"", "timeout")])
def test_a_server_that_does_not_speak_tls_is_said(said: bytes, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        over = threading.Event()

        def speak() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.sendall(said)
                over.wait(30)

        speaking = threading.Thread(target=speak, daemon=True)
        speaking.start()
        with pytest.raises(FetchFailed) as failure:
            GuardedClient(AllowList(["127.0.0.1"]), limits=QUICK).post(
                f"https://127.0.0.1:{plain.getsockname()[1]}/", b""
            )
        over.set()
        speaking.join(timeout=30)
    assert failure.value.reason == reason


def test_a_redirect_from_https_to_http_is_refused(secure: Receiver, certificate: Path) -> None:
    with Receiver() as plain:
        secure.react = answer(302, Location=plain.url)
        with pytest.raises(UrlRefused) as refusal:
            get(trusting(certificate, secure, plain.authority), f"https://{NAME}:{secure.port}/")
        assert refusal.value.reason == "downgrade"
        assert plain.requests == []
