"""Objects as files below one folder: the embedded mode's store."""

import contextlib
import hashlib
import hmac
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlencode
from uuid import uuid4

from app.domain.errors import LinkInvalid
from app.domain.inventory import Stored
from app.domain.keys import check_key
from app.domain.ports import Progress
from app.storage.listing import in_folder

_STAGING = ".staging"  # half-written and half-deleted things: inside the root, so that renames stay atomic
_STALE_S = 86_400.0
_STEP = 4 << 20  # bytes copied between two looks at whether to go on


class LocalStore:
    """An ObjectStore below one folder, with signed links to the gateway's ``/objects`` route.

    Several processes may share the folder. Objects are written to the side, flushed to the disk and
    renamed into place, so a reader or a crash sees all of an object or none.

    Args:
        root: The folder; made if absent.
        base_url: Public base URL of the gateway, such as ``http://127.0.0.1:8000``.
        secret: Key that signs links; whoever has it can make links to any object.
    """

    def __init__(self, root: Path, *, base_url: str, secret: bytes) -> None:
        if not secret:
            raise ValueError("links cannot be signed with an empty secret")
        self._root = root.resolve()
        self._staging = self._root / _STAGING
        self._staging.mkdir(parents=True, exist_ok=True)
        self._base_url = base_url.rstrip("/")
        self._secret = secret
        self._sweep()

    def put(self, key: str, source: Path, progress: Progress | None = None) -> None:
        """Store a copy of the file at ``source``, replacing what was there; readers see all or none.

        Args:
            key: Where to.
            source: The file; it stays the caller's: changing it later does not change the object.
            progress: See ``ObjectStore``.

        Raises:
            ValueError: If the key is not one.
            OSError: If the file cannot be read or the disk is full; the old object stays.
        """
        target = self._path(key)
        partial = self._staging / uuid4().hex
        try:
            _copy(source, partial, progress)
            with partial.open("rb") as copied:
                os.fsync(copied.fileno())
            self._publish(partial, target)
        finally:
            partial.unlink(missing_ok=True)

    def lend(self, key: str, source: Path, progress: Progress | None = None) -> None:
        """Store a file by a hard link on one file system, else by a copy; it need not outlast a crash.

        Args:
            key: Where to.
            source: The file; nobody may write into it any more.
            progress: See ``ObjectStore``.
        """
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if progress is not None:
                progress(0)
            os.link(source, target)
        except OSError:  # another file system, one without links, or there already
            self.put(key, source, progress)

    def adopt(self, key: str, source: Path, progress: Progress | None = None) -> None:
        """Store the file at ``source`` by moving it here: no byte is copied on one file system.

        The caller gives the file up. After a crash it is whole in one of the two places.

        Args:
            key: Where to.
            source: The file.
            progress: See ``ObjectStore``; for what has to be copied.

        Raises:
            ValueError: If the key is not one.
            FileNotFoundError: If there is no file at ``source``.
        """
        target = self._path(key)
        with source.open("rb") as reading:
            os.fsync(reading.fileno())
            same_file_system = os.fstat(reading.fileno()).st_dev == self._root.stat().st_dev
        if not same_file_system:
            self.put(key, source, progress)
            source.unlink(missing_ok=True)
            return
        self._publish(source, target)
        _sync_folder(source.parent)

    def fetch(self, key: str, target: Path, progress: Progress | None = None) -> None:
        """Write the object to ``target``, replacing what was there.

        On one file system this is a hard link: no time and no space even for a survey of many gigabytes.
        The file is then the store's own and read-only: read it, replace it, never write into it.

        Args:
            key: Where from.
            target: The file.
            progress: See ``ObjectStore``.

        Raises:
            FileNotFoundError: If there is no such object; ``target`` is left as it was.
        """
        path = self._existing(key)
        partial = target.with_name(f".{uuid4().hex}.part")
        try:
            if progress is not None:
                progress(0)
            try:
                os.link(path, partial)
            except FileNotFoundError:
                raise
            except OSError:  # another file system, or one without links
                _copy(path, partial, progress)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """Open the object as a seekable stream.

        Raises:
            FileNotFoundError: If there is no such object.
        """
        with self._existing(key).open("rb") as stream:
            yield stream

    def path(self, key: str) -> Path:
        """Return where the object's file is, for reading.

        Raises:
            FileNotFoundError: If there is no such object.
        """
        return self._existing(key)

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes; None if there is none."""
        try:
            found = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def delete(self, key: str) -> None:
        """Delete one object; an absent one is no error."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            self._path(key).unlink()

    def delete_prefix(self, prefix: str) -> None:
        """Delete every object whose key starts with ``prefix``; absent ones are no error.

        Raises:
            ValueError: If the prefix is empty or leaves the store.
        """
        folder = self._path(prefix.rstrip("/"))
        doomed = [folder] if prefix.endswith("/") else _starting_with(folder)
        for path in doomed:
            grave = self._staging / uuid4().hex
            try:
                path.rename(grave)  # gone at once for readers, even while a tree is being removed
            except (FileNotFoundError, NotADirectoryError):
                continue
            _remove(grave)

    def listed(self, prefix: str) -> Iterator[Stored]:
        """Yield every object below ``prefix``, which ends with a slash or is empty."""
        return in_folder(self._root, prefix, hidden=_STAGING)

    def unfinished(self, prefix: str) -> Iterator[Stored]:  # noqa: ARG002
        """Yield nothing: objects come whole."""
        return iter(())

    def remove(self, found: Stored) -> None:
        """Delete one object, and the folders that are empty then; an absent one is no error."""
        self.delete(found.key)
        for folder in self._path(found.key).parents:
            try:
                folder.rmdir()
            except OSError:  # not empty
                break

    def url(self, key: str, *, expires_s: int, download_name: str | None = None) -> str:
        """Return a public link that works for ``expires_s`` seconds.

        ``download_name`` makes browsers save the file under that name instead of showing it.
        """
        self._path(key)
        expires = int(time.time()) + expires_s
        query = {"expires": str(expires), "sig": self._sign(key, expires, download_name)}
        if download_name is not None:
            query["name"] = download_name
        return f"{self._base_url}/objects/{quote(key)}?{urlencode(query)}"

    def verify(self, key: str, expires: str, sig: str, name: str | None, now: float) -> None:
        """Check a link's parts.

        Args:
            key: The object's key.
            expires: Unix time in seconds until which the link works, as it stands in the link.
            sig: The signature, hexadecimal.
            name: The download name, if the link has one.
            now: The time, Unix seconds.

        Raises:
            LinkInvalid: If the link was not made here, was changed, or has expired.
        """
        if not (expires.isascii() and expires.isdigit() and len(expires) <= 15):
            raise LinkInvalid
        good = self._sign(key, int(expires), name).encode()
        if not hmac.compare_digest(good, sig.encode(errors="replace")) or now > int(expires):
            raise LinkInvalid

    def _sign(self, key: str, expires: int, name: str | None) -> str:
        # NUL cannot be in a key or a number, so no two links share one message
        message = f"object\0{key}\0{expires}\0{'' if name is None else f'={name}'}"
        return hmac.new(self._secret, message.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()

    def _existing(self, key: str) -> Path:
        path = self._path(key)
        if not path.is_file():
            raise FileNotFoundError(key)
        return path

    def _path(self, key: str) -> Path:
        """Return the file of a key, which is below the root and reached through no link that leaves it."""
        check_key(key)
        if key.split("/", 1)[0] == _STAGING:
            raise ValueError(f"{key!r} is not a key: it leaves the store")
        path = self._root / key
        if not path.resolve().is_relative_to(self._root):
            raise ValueError(f"{key!r} is not a key: it leaves the store")
        return path

    def _publish(self, source: Path, target: Path) -> None:
        """Rename a finished file into place, and make the rename last."""
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            source.replace(target)
        except FileNotFoundError:  # the folder was deleted in between, as an emptied prefix
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        target.chmod(0o444)  # only now: a crash before the rename must leave the source as it was
        for folder in target.parents:
            _sync_folder(folder)
            if folder == self._root:
                break

    def _sweep(self) -> None:
        """Remove what a crash left half-written."""
        now = time.time()
        for path in self._staging.iterdir():
            with contextlib.suppress(OSError):
                if now - path.lstat().st_mtime > _STALE_S:
                    _remove(path)


def _copy(source: Path, target: Path, progress: Progress | None) -> None:
    done = 0
    with source.open("rb") as reading, target.open("wb") as writing:
        while True:
            if progress is not None:
                progress(done)
            if not (data := reading.read(_STEP)):
                return
            writing.write(data)
            done += len(data)


def _starting_with(path: Path) -> list[Path]:
    try:
        return [found for found in path.parent.iterdir() if found.name.startswith(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
