"""A web server of one file on loopback, which breaks off, lies, is slow or forgets as a test wants it."""

import re
import socket
from dataclasses import dataclass, field

from tests.receivers import Request


@dataclass
class WebFile:
    """Answers GET as a careful server does, with ranges; for use as a Receiver's reaction.

    Args:
        content: The file.
        tag: Its ETag.
        cuts: After how many bytes of the body to hang up, for each request in turn; afterwards never.
        promises: What Content-Length says, if it is a lie.
        headers: Further headers, or others.
    """

    content: bytes
    tag: str = '"1"'
    cuts: list[int] = field(default_factory=list)
    promises: int | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, connection: socket.socket, request: Request) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        goes_on = asked is not None and request.headers.get("if-range") == self.tag
        start = int(asked[1]) if asked is not None and goes_on else 0
        body = self.content[start:]
        headers = {"ETag": self.tag, "Content-Length": str(len(body) if self.promises is None else self.promises)}
        if goes_on:
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        lines = [f"HTTP/1.1 {206 if goes_on else 200} Whatever"]
        lines += [f"{name}: {value}" for name, value in {**headers, **self.headers}.items() if value]
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        connection.sendall(body[: self.cuts.pop(0)] if self.cuts else body)
