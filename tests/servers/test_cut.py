"""The bad line does what it is told, and nothing else."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.servers.cut import Cut


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends everything back; its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(4096):
                connection.sendall(data)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=answer, args=(connection,)))
            threads[-1].start()

    threads.append(threading.Thread(target=accept))
    threads[0].start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in threads:
        thread.join(timeout=10)


@pytest.fixture
def line(echo: int) -> Iterator[Cut]:
    with Cut(echo) as line:
        yield line


def connect(line: Cut) -> socket.socket:
    return socket.create_connection(("127.0.0.1", line.port), timeout=10)


def receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        assert more, f"the line ended after {len(data)} of {count} bytes"
        data += more
    return data


def says(line: Cut, text: bytes = b"hello") -> bytes:
    with connect(line) as client:
        client.sendall(text)
        return receive(client, len(text))


def test_a_good_line_carries_everything_both_ways_and_counts_it(line: Cut) -> None:
    data = bytes(range(256)) * 4096
    with connect(line) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        assert receive(client, len(data)) == data
        sender.join()
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert line.carried == {"up": len(data), "down": len(data)}
    assert line.connections == 1


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_line_is_reset_after_so_many_bytes_of_which_each_arrives(line: Cut, direction: str) -> None:
    line.reset_after(1000, direction)  # type: ignore[arg-type]
    with connect(line) as client:
        client.sendall(bytes(600))
        assert receive(client, 600) == bytes(600)
        client.sendall(bytes(600))
        with pytest.raises(ConnectionResetError):
            receive(client, 601)
    assert line.carried[direction] == 1000  # type: ignore[index]
    line.heal()
    assert says(line) == b"hello"


def test_connections_that_exist_are_reset_and_new_ones_work(line: Cut) -> None:
    with connect(line) as client:
        client.sendall(b"x")
        assert receive(client, 1) == b"x"
        line.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert says(line) == b"hello"


def test_a_black_hole_accepts_and_keeps_silent_until_it_is_healed(line: Cut) -> None:
    with connect(line) as old:
        old.sendall(b"a")
        assert receive(old, 1) == b"a"
        line.blackhole()
        with connect(line) as new:
            for client in (old, new):
                client.sendall(b"b")
                client.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    client.recv(1)
                client.settimeout(10)
            line.heal()
            assert [receive(client, 1) for client in (old, new)] == [b"b", b"b"]


def test_a_line_that_refuses_has_nobody_at_its_port_and_comes_back_there(line: Cut) -> None:
    with connect(line) as client:
        client.sendall(b"x")
        assert receive(client, 1) == b"x"
        line.refuse()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(line)
    line.heal()
    assert says(line) == b"hello"


def test_a_slow_line_is_late_and_narrow(line: Cut) -> None:
    line.slow(latency_s=0.1)
    started = time.monotonic()
    assert says(line) == b"hello"
    assert time.monotonic() - started >= 0.2  # once there, once back
    line.slow(bytes_per_s=100_000)
    started = time.monotonic()
    says(line, bytes(20_000))
    assert time.monotonic() - started >= 0.2


def test_a_server_that_is_away_resets_its_clients(echo: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with Cut(port) as line, pytest.raises(ConnectionError):
        says(line)  # it may be reset before it has noticed that it is connected


def test_a_line_ends_even_while_its_server_takes_nothing() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Cut(server.getsockname()[1]) as line,
        connect(line) as client,
    ):
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(64 * 2**20))
        line.reset()
        with pytest.raises(OSError, match="reset"):
            client.recv(1)
