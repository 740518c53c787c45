"""Fetching result files: several at once, whole or not at all, continuing where an earlier try stopped."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import httpx

from app.client.errors import Refused, TransferFailed, Unreachable
from app.client.models import Artifact
from app.client.sending import Progress
from app.client.transport import Patience, refusal

_STALE_LINK = 403


def fetch_all(
    http: httpx.Client,
    listing: Callable[[], Sequence[Artifact]],
    folder: Path,
    *,
    parallel: int,
    patience_s: float,
    progress: Progress,
) -> list[Path]:
    """Fetch every file of a result into a folder; those that are there already in full are left alone.

    Args:
        http: Sends the requests.
        listing: Asks the server for the files, with fresh links.
        folder: Where to put them; made if absent.
        parallel: How many at once.
        patience_s: Seconds without a byte after which it is given up.
        progress: Told the bytes that are here and the bytes in all.

    Returns:
        The files, in the server's order.

    Raises:
        Refused: If the server says no.
        Unreachable: If it stays away.
        TransferFailed: If a file's name leads out of the folder, or its size is wrong.
    """
    artifacts = listing()
    targets = {artifact.name: _target(folder, artifact.name) for artifact in artifacts}
    total = _Total(sum(artifact.size for artifact in artifacts), progress)
    folder.mkdir(parents=True, exist_ok=True)

    def one(artifact: Artifact) -> Path:
        return _Fetching(http, listing, artifact, targets[artifact.name], Patience(patience_s), total).run()

    with ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="fetch") as pool:
        fetching = [pool.submit(one, artifact) for artifact in artifacts]
        try:
            return [future.result() for future in fetching]
        except BaseException:
            total.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


class _Total:
    """Adds up what the threads have."""

    def __init__(self, size: int, progress: Progress) -> None:
        self._size = size
        self._here = 0
        self._progress = progress
        self._lock = threading.Lock()
        self.stopped = threading.Event()
        progress(0, size)

    def add(self, count: int) -> None:
        with self._lock:
            self._here += count
            self._progress(self._here, self._size)


class _Fetching:
    def __init__(
        self,
        http: httpx.Client,
        listing: Callable[[], Sequence[Artifact]],
        artifact: Artifact,
        target: Path,
        patience: Patience,
        total: _Total,
    ) -> None:
        self._http = http
        self._listing = listing
        self._artifact = artifact
        self._target = target
        self._partial = target.with_name(f".{target.name}.part")
        self._patience = patience
        self._total = total
        self._links = 0

    def run(self) -> Path:
        """Fetch the file, beginning again at the byte where a broken line stopped."""
        size = self._artifact.size
        if self._target.is_file() and self._target.stat().st_size == size:
            self._total.add(size)
            return self._target
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._total.add(here := self._here())
        while here < size or not self._partial.exists():
            why: object
            try:
                self._more(here)
                why = "the line broke"
            except httpx.TransportError as error:
                why = error
            except Refused as error:
                if error.status == _STALE_LINK and self._links < 3:
                    self._renew()
                elif error.status < 500:
                    raise
                why = error
            now = self._here()
            if now > here:
                self._patience.restart()
            elif now < size and not self._patience.pause():
                raise Unreachable(f"{httpx.URL(self._artifact.url).host}, while fetching {self._artifact.name},", why)
            here = now
        self._partial.replace(self._target)
        return self._target

    def _here(self) -> int:
        return self._partial.stat().st_size if self._partial.is_file() else 0

    def _more(self, here: int) -> None:
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={here}-"} if here else {})
        with self._http.stream("GET", self._artifact.url, headers=headers) as answer:
            if not answer.is_success:
                answer.read()
                raise refusal(answer)
            if here and answer.status_code != 206:  # no ranges here: from the start
                self._total.add(-here)
                here = 0
            with self._partial.open("r+b" if here else "wb") as stream:
                stream.seek(here)
                for block in answer.iter_bytes():
                    if self._total.stopped.is_set():
                        raise TransferFailed("Fetching was stopped.")
                    here += len(block)
                    if here > self._artifact.size:
                        self._partial.unlink(missing_ok=True)
                        raise TransferFailed(
                            f"{self._artifact.name} is longer than the server says.", "Fetch it again."
                        )
                    stream.write(block)
                    self._total.add(len(block))

    def _renew(self) -> None:
        """Get a fresh link; links live for minutes, slow lines take hours."""
        self._links += 1
        fresh = {artifact.name: artifact for artifact in self._listing()}
        if self._artifact.name not in fresh or fresh[self._artifact.name].size != self._artifact.size:
            raise TransferFailed("The result changed while it was fetched.", "Fetch it again.")
        self._artifact = fresh[self._artifact.name]


def _target(folder: Path, name: str) -> Path:
    """Return where a file goes; a hostile server must not choose a place outside the folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or "\\" in name:
        raise TransferFailed(f"The server names a file {name!r}, which leads out of the folder.")
    return folder.joinpath(*parts)
