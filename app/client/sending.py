"""Sending a file by tus 1.0 so that no outage, on either side, costs more than the bytes in flight."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import httpx

from app.client.errors import Refused, TransferFailed, Unreachable
from app.client.transport import Patience, refusal

_PIECE = 64 << 20  # bytes a request: each ends with the server's word for how much it has
_BLOCK = 1 << 18
_AGAIN = {409, 423, 429, 500, 502, 503, 504}
# finishing flushes the file to the disk and looks at it, which takes a while for gigabytes
_TIMEOUT = httpx.Timeout(30.0, connect=10.0, read=300.0)
_TUS = {"Tus-Resumable": "1.0.0"}

Progress = Callable[[int, int], None]
"""Called with the bytes sent so far and the bytes in all; may go back after an outage."""


def send(http: httpx.Client, url: str, path: Path, *, patience: Patience, progress: Progress) -> None:
    """Send a file to an upload URL, continuing where it stands.

    Args:
        http: Sends the requests.
        url: The upload, of known or still unknown length.
        path: The file.
        patience: How long to go on while nothing arrives.
        progress: Told how far it is.

    Raises:
        Refused: If the server says no for good.
        Unreachable: If the server stays away.
        TransferFailed: If the upload belongs to another file, or the file changes meanwhile.
    """
    with path.open("rb") as stream:
        _Sending(http, url, stream, patience, progress).run(path.name)


class _Sending:
    def __init__(self, http: httpx.Client, url: str, stream: BinaryIO, patience: Patience, progress: Progress) -> None:
        self._http = http
        self._url = url
        self._stream = stream
        self._patience = patience
        self._progress = progress
        self._before = os.fstat(stream.fileno())
        self._size = self._before.st_size
        self._is_length_known = False

    def run(self, name: str) -> None:
        """Ask, send, and ask again after each failure, until the server has all."""
        offset: int | None = None
        best = -1
        while offset is None or offset < self._size or not self._is_length_known:
            why: object
            try:
                offset = self._ask(name) if offset is None else self._send(offset)
                if offset > best:  # only what arrives counts as progress
                    best = offset
                    self._patience.restart()
                self._progress(offset, self._size)
                continue
            except httpx.TransportError as error:
                why = error
            except Refused as error:
                if error.status not in _AGAIN:
                    raise
                why = error
            offset = None
            if not self._patience.pause():
                raise Unreachable(f"{httpx.URL(self._url).host}, while sending {name},", why) from None
        after = os.fstat(self._stream.fileno())
        if (after.st_size, after.st_mtime_ns) != (self._size, self._before.st_mtime_ns):
            raise TransferFailed(f"{name} changed while it was sent.", "Submit it again once it is complete.")

    def _ask(self, name: str) -> int:
        answer = self._http.head(self._url, headers={**_TUS, "Upload-Length": str(self._size)}, timeout=_TIMEOUT)
        if not answer.is_success:
            raise refusal(answer)
        told = answer.headers.get("upload-length")
        offset = _offset(answer)
        if (told is not None and told != str(self._size)) or offset > self._size:
            raise TransferFailed(
                f"The upload belongs to another file: {name} has {self._size} bytes.", "Start afresh with --new."
            )
        # a server that keeps a length unknown wants to hear it with the next bytes, and only once
        self._is_length_known = told is not None
        return offset

    def _send(self, offset: int) -> int:
        length = min(_PIECE, self._size - offset)
        headers = {
            **_TUS,
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(length),
        }
        if not self._is_length_known:
            headers["Upload-Length"] = str(self._size)
        content = self._blocks(offset, length)
        answer = self._http.patch(self._url, headers=headers, content=content, timeout=_TIMEOUT)
        if not answer.is_success:
            raise refusal(answer)
        self._is_length_known = True
        return _offset(answer)

    def _blocks(self, offset: int, length: int) -> Iterator[bytes]:
        self._stream.seek(offset)
        end = offset + length
        while offset < end:
            block = self._stream.read(min(_BLOCK, end - offset))
            if not block:
                raise TransferFailed("The file became shorter while it was sent.", "Submit it again.")
            offset += len(block)
            yield block
            self._progress(offset, self._size)


def _offset(answer: httpx.Response) -> int:
    try:
        return int(answer.headers["upload-offset"])
    except (KeyError, ValueError):
        raise TransferFailed(
            f"What answers at {answer.url} is not a tus 1.0 server.", "Check the server's public URL."
        ) from None
