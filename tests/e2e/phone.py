"""A tus client as the mobile app has it, byte for byte: server-made uploads, HEAD first, chunked bodies.

It follows what tus-java-client 0.5.1 over HttpURLConnection sends: ``Upload-Length`` with HEAD and the first
PATCH only, ``Transfer-Encoding: chunked`` without Content-Length, 10 MiB a request in chunks of 4 KiB, and an empty
PATCH after the last full piece.
"""

import http.client
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PIECE = 10 * 2**20
CHUNK = 4096


@dataclass
class Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def offset(self) -> int:
        return int(self.headers["upload-offset"])


class Phone:
    """Sends to one upload URL.

    Args:
        url: The upload.
        override: Whether to say PATCH by POST with X-HTTP-Method-Override.
    """

    def __init__(self, url: str, *, override: bool = False) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = (parts.hostname, parts.port)
        self._path = parts.path
        self._override = override

    def connect(self) -> socket.socket:
        return socket.create_connection(self._address, timeout=30)

    def head(self, length: int | None = None) -> Answer:
        headers = {"Tus-Resumable": "1.0.0"} | ({} if length is None else {"Upload-Length": str(length)})
        with self.connect() as line:
            line.sendall(self._request("HEAD", headers))
            return _read(line, "HEAD")

    def patch_head(self, offset: int, length: int | None = None, **more: str) -> bytes:
        """Return the head of a PATCH whose body comes in chunks."""
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Transfer-Encoding": "chunked",
            **({} if length is None else {"Upload-Length": str(length)}),
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        if self._override:
            return self._request("POST", {"X-HTTP-Method-Override": "PATCH", **headers})
        return self._request("PATCH", headers)

    def patch(self, data: bytes, offset: int, length: int | None = None, **more: str) -> Answer:
        with self.connect() as line:
            line.sendall(self.patch_head(offset, length, **more))
            send_chunks(line, data)
            line.sendall(b"0\r\n\r\n")
            return _read(line, "PATCH")

    def upload(self, data: bytes) -> int:
        """Send all of ``data`` from where the server stands; return the number of PATCH requests."""
        offset = self.head(len(data)).offset
        first, requests = True, 0
        while True:
            piece = data[offset : offset + PIECE]
            answer = self.patch(piece, offset, len(data) if first else None)
            assert answer.status == 204, answer
            assert answer.offset == offset + len(piece)
            requests += 1
            first = False
            offset = answer.offset
            if len(piece) < PIECE:  # a full last piece is followed by an empty one, since read() has to say the end
                return requests

    def _request(self, method: str, headers: dict[str, str]) -> bytes:
        lines = [f"{method} {self._path} HTTP/1.1", f"Host: {self._address[0]}:{self._address[1]}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def send_chunks(line: socket.socket, data: bytes) -> None:
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    line.sendall(b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks))


def _read(line: socket.socket, method: str) -> Answer:
    response = http.client.HTTPResponse(line, method=method)
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    answer = Answer(response.status, headers, response.read())
    response.close()
    return answer
