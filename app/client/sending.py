"""Sending a file by tus 1.0 so that no outage, on either side, costs more than the bytes in flight."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import httpx
from tusclient.client import TusClient
from tusclient.request import TusRequest
from tusclient.uploader import Uploader

from app.client.errors import Refused, TransferFailed, Unreachable
from app.client.transport import Patience, refusal

_PIECE = 64 << 20  # bytes a request: each ends with the server's word for how much it has
_BLOCK = 1 << 18
_AGAIN = {409, 423, 429, 500, 502, 503, 504}
# finishing flushes the file to the disk and looks at it, which takes a while for gigabytes
_TIMEOUT = httpx.Timeout(30.0, connect=10.0, read=300.0)

# what a task lacks is sent last, so that it cannot start before the optional files are there
_ORDER = ("prj", "dbf", "shx", "shp", "pre", "post")

Progress = Callable[[int, int], None]
"""Called with the bytes sent so far and the bytes in all; may go back after an outage."""


def in_sending_order(labels: Iterable[str]) -> list[str]:
    """Return labels as their files are best sent; those of other pipelines come first, as they are given.

    >>> in_sending_order(["pre", "shp", "prj", "image"])
    ['image', 'prj', 'shp', 'pre']
    """
    return sorted(labels, key=lambda label: _ORDER.index(label) if label in _ORDER else -1)


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
        before = os.fstat(stream.fileno())
        _Sending(http, url, stream, path.name, progress).persist(patience)
        after = os.fstat(stream.fileno())
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise TransferFailed(f"{path.name} changed while it was sent.", "Submit it again once it is complete.")


class _Sending(Uploader):  # type: ignore[misc]  # tuspy is half typed
    """tuspy's uploader over httpx, which has timeouts; without a limit on how often the line may break.

    tuspy keeps the offset, cuts the pieces, and writes the protocol's headers.
    """

    offset: int
    stop_at: int

    def __init__(self, http: httpx.Client, url: str, stream: BinaryIO, name: str, progress: Progress) -> None:
        # given the address at once, tuspy would ask for the offset here, where nobody has patience yet
        super().__init__(file_stream=stream, client=TusClient(url), chunk_size=_PIECE)
        self.set_url(url)
        self.progress = progress
        self._http = http
        self._name = name
        self._is_length_known = False

    def persist(self, patience: Patience) -> None:
        """Ask, send, and ask again after each failure, until the server has all."""
        is_asked, best = False, -1
        while not is_asked or self.offset < self.stop_at or not self._is_length_known:
            why: object
            try:
                if is_asked:
                    self.upload_chunk()
                else:
                    self.offset = self.get_offset()
                is_asked = True
                if self.offset > best:  # only what arrives counts as progress
                    best = self.offset
                    patience.restart()
                self.progress(self.offset, self.stop_at)
                continue
            except httpx.TransportError as error:
                why = error
            except Refused as error:
                if error.status not in _AGAIN or error.code.startswith("QUOTA_"):
                    raise
                why = error
            is_asked = False
            if not patience.pause():
                raise Unreachable(f"{httpx.URL(self.url).host}, while sending {self._name},", why) from None

    def get_headers(self) -> dict[str, str]:
        """Return the headers of each request; a server that keeps a length unknown wants to hear it only once."""
        headers: dict[str, str] = super().get_headers()
        return headers if self._is_length_known else {**headers, "Upload-Length": str(self.stop_at)}

    def get_offset(self) -> int:
        """Return how much the server has."""
        answer = self.exchange("HEAD", self.get_headers())
        told, offset = answer.headers.get("upload-length"), int(answer.headers["upload-offset"])
        if (told is not None and told != str(self.stop_at)) or offset > self.stop_at:
            raise TransferFailed(
                f"The upload belongs to another file: {self._name} has {self.stop_at} bytes.",
                "Start afresh with --new.",
            )
        self._is_length_known = told is not None
        return offset

    def exchange(self, method: str, headers: dict[str, str], content: Iterator[bytes] | None = None) -> httpx.Response:
        """Return the answer to a request, if it is a success that tells the offset."""
        answer = self._http.request(method, self.url, headers=headers, content=content, timeout=_TIMEOUT)
        if not answer.is_success:
            raise refusal(answer)
        if not answer.headers.get("upload-offset", "").isdecimal():
            raise TransferFailed(
                f"What answers at {answer.url} is not a tus 1.0 server.", "Check the server's public URL."
            )
        return answer

    def _do_request(self) -> None:
        self.request = _Piece(self)
        self.request.perform()
        self._is_length_known = True


class _Piece(TusRequest):  # type: ignore[misc]
    """tuspy's PATCH, sent as it is read: a piece need not fit into memory."""

    def __init__(self, sending: _Sending) -> None:
        super().__init__(sending)
        self._sending = sending

    def perform(self) -> None:
        """Send the piece, and note the answer's headers."""
        headers = {**self._request_headers, "Content-Length": str(self._content_length)}
        self.response_headers = dict(self._sending.exchange("PATCH", headers, self._blocks()).headers)

    def _blocks(self) -> Iterator[bytes]:
        offset = self._sending.offset
        end = offset + self._content_length
        while offset < end:
            block = self.file.read(min(_BLOCK, end - offset))
            if not block:
                raise TransferFailed("The file became shorter while it was sent.", "Submit it again.")
            offset += len(block)
            yield block
            self._sending.progress(offset, self._sending.stop_at)
