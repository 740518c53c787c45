"""A file that is fetched by a real service arrives, although whoever fetches it is killed in the middle."""

import socket
from typing import Any

import httpx
import pytest

from tests.faults.conftest import Service, wait_for
from tests.files import WebFile
from tests.receivers import Receiver, Request

pytestmark = pytest.mark.service

CONTENT = bytes(range(256)) * 8000


def test_a_file_arrives_although_the_fetching_process_is_killed(tmp_path: Any) -> None:
    whole = WebFile(CONTENT)

    def hang(connection: socket.socket, request: Request) -> None:
        """Send some, then nothing for as long as anybody listens."""
        head = f"HTTP/1.1 200 OK\r\nETag: {whole.tag}\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
        connection.sendall(head.encode() + CONTENT[:1_000_000])
        connection.recv(1)

    with Receiver(hang) as host:
        service = Service(tmp_path / "data", VOLCAL_FETCH_ALLOW=host.authority)
        service.start()
        try:
            body = {"pipeline": "constant", "inputs": {"file": f"{host.url}/survey.laz"}}
            task = httpx.post(f"{service.url}/api/v1/tasks", json=body, timeout=30).raise_for_status().json()
            wait_for(lambda: service.task(task["id"])["uploads"]["file"]["offset"] >= 900_000, "half of the file")
            host.react = whole
            service.part("beat").kill()
            found = service.settled(task["id"])
            assert (found["status"], found["uploads"]["file"]["size"]) == ("done", len(CONTENT))
            asked = [request.headers.get("range") for request in host.requests]
            assert asked[0] is None
            start = int(str(asked[-1]).removeprefix("bytes=").removesuffix("-"))
            assert 0 < start <= 1_000_000
            assert list((service.data / "fetching").iterdir()) == []
        finally:
            service.close()
