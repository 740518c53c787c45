"""Large files in ranges at once, from a server that may break off, change its mind, or know no ranges."""

import base64
import hashlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.client import TransferFailed, Unreachable, VolcalClient, ranges

DATA = random.Random(1).randbytes(1_000_001)
PIECE = 100_000


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "PIECE", PIECE)


class Server:
    """Serves one file; ``breaks`` are offsets at which the line breaks, each once."""

    def __init__(self, data: bytes = DATA, *, etag: str = '"1"', breaks: set[int] | None = None) -> None:
        self.data = data
        self.etag = etag
        self.breaks = breaks or set()
        self.ranges = True
        self.more: dict[str, str] = {}
        self.asked: list[tuple[int, int]] = []
        self.together: threading.Barrier | None = None
        self.stale: set[str] = set()
        self.listed = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/artifacts"):
            self.listed += 1
            listed = {"name": "a.laz", "size": len(self.data), "url": f"http://files.test/{self.listed}"}
            return httpx.Response(200, json={"artifacts": [listed]})
        if request.url.path in self.stale:
            return httpx.Response(403, json={"code": "LINK_INVALID", "detail": "expired"})
        headers = {"etag": self.etag, **self.more}
        said = request.headers.get("range")
        if said is None or not self.ranges or request.headers.get("if-range", self.etag) != self.etag:
            return httpx.Response(200, headers=headers, stream=_Body(self, 0, len(self.data)))
        start, end = (int(number) for number in said.removeprefix("bytes=").split("-"))
        self.asked.append((start, end + 1))
        if self.together is not None and end > start:
            self.together.wait(timeout=10)
        headers["content-range"] = f"bytes {start}-{end}/{len(self.data)}"
        return httpx.Response(206, headers=headers, stream=_Body(self, start, end + 1))


class _Body(httpx.SyncByteStream):
    def __init__(self, server: Server, start: int, end: int) -> None:
        self._server, self._start, self._end = server, start, end

    def __iter__(self) -> Iterator[bytes]:
        for at in range(self._start, self._end, 10_000):
            here = [offset for offset in self._server.breaks if at <= offset < min(at + 10_000, self._end)]
            if here:
                self._server.breaks.remove(here[0])
                yield self._server.data[at : here[0]]
                raise httpx.ReadError("reset")
            yield self._server.data[at : min(at + 10_000, self._end)]


def fetch(server: Server, folder: Path, *, patience_s: float = 1.0, **more: Any) -> bytes:
    with VolcalClient("http://volcal.test", patience_s=patience_s, transport=httpx.MockTransport(server)) as client:
        (path,) = client.fetch("7", folder, **more)
    assert [each.name for each in folder.iterdir()] == ["a.laz"]
    return path.read_bytes()


def test_a_large_file_comes_in_ranges_several_at_once(tmp_path: Path) -> None:
    server = Server()
    server.together = threading.Barrier(2)  # each range waits until another is asked for too
    seen: list[tuple[int, int]] = []
    server.data = server.data[: 10 * PIECE]
    got = fetch(server, tmp_path, parallel=2, progress=lambda done, total: seen.append((done, total)))
    assert got == server.data
    assert sorted(server.asked) == [(0, 1), *((at, at + PIECE) for at in range(0, 10 * PIECE, PIECE))]
    assert seen[0] == (0, 10 * PIECE)
    assert seen[-1] == (10 * PIECE, 10 * PIECE)


def test_a_range_goes_on_where_its_line_broke(tmp_path: Path) -> None:
    server = Server(breaks={150_000, 155_500, 999_999})
    assert fetch(server, tmp_path) == DATA
    assert {(150_000, 200_000), (155_500, 200_000), (999_999, 1_000_000)} <= set(server.asked)


def test_another_process_fetches_only_the_pieces_that_are_missing(tmp_path: Path) -> None:
    server = Server()
    lost = Server(breaks={300_000 + each for each in range(10_000)})  # the fourth piece never comes
    with pytest.raises(Unreachable):
        fetch(lost, tmp_path, patience_s=0.2, parallel=2)
    assert not (tmp_path / "a.laz").exists()
    assert fetch(server, tmp_path) == DATA
    pieces = [asked for asked in server.asked if asked != (0, 1)]
    assert (300_000, 400_000) in pieces
    assert (0, 100_000) not in pieces


def test_what_is_here_of_another_version_is_not_mixed_in(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        fetch(Server(breaks={300_000 + each for each in range(10_000)}), tmp_path, patience_s=0.2, parallel=2)
    fresh = bytes(reversed(DATA))
    assert fetch(Server(fresh, etag='"2"'), tmp_path) == fresh


def test_a_file_that_changes_while_it_is_fetched_is_no_file(tmp_path: Path) -> None:
    class Changing(Server):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            answer = super().__call__(request)
            if len(self.asked) == 4:
                self.etag, self.data = '"2"', bytes(len(DATA))
            return answer

    with pytest.raises(TransferFailed, match="changed while it was fetched"):
        fetch(Changing(), tmp_path, parallel=2)
    assert not (tmp_path / "a.laz").exists()


def test_a_server_that_knows_no_ranges_sends_one_stream(tmp_path: Path) -> None:
    server = Server()
    server.ranges = False
    assert fetch(server, tmp_path) == DATA
    assert server.asked == []


def test_an_expired_link_is_renewed_once_for_all_ranges(tmp_path: Path) -> None:
    server = Server()
    server.stale = {"/1"}
    assert fetch(server, tmp_path, parallel=4) == DATA
    assert server.listed == 2


@pytest.mark.parametrize("ranged", [True, False])
def test_a_digest_that_the_server_says_is_checked(tmp_path: Path, ranged: bool) -> None:
    server = Server()
    server.ranges = ranged
    server.more = {"repr-digest": f"sha-256=:{base64.b64encode(hashlib.sha256(DATA).digest()).decode()}:"}
    assert fetch(server, tmp_path / "good") == DATA
    server.data = bytes(len(DATA))
    with pytest.raises(TransferFailed, match="its SHA-256 is another"):
        fetch(server, tmp_path / "bad")
    assert list((tmp_path / "bad").iterdir()) == []
