"""How is a bit of a huge object read without fetching it?"""

import io
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BLOCK = 256 * 1024
_BLOCKS = 8
_MOST = 8 << 20  # bytes of one request


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of an object.

    Args:
        data: The bytes.
        etag: Which version of the object they are from.
        total: Bytes of the whole object.
    """

    data: bytes
    etag: str
    total: int


class ObjectStream(io.RawIOBase):
    """A seekable stream over one version of an object; what lies near is remembered, 2 MiB of it.

    It belongs under an ``io.BufferedReader`` with a buffer of one ``BLOCK``.

    Args:
        ask: Returns the bytes from a position on, so many at most, of the version with an ETag; None means the
            present one. It raises if that version is no more.
    """

    def __init__(self, ask: Callable[[int, int, str | None], Piece]) -> None:
        super().__init__()
        first = ask(0, BLOCK, None)
        self._ask = ask
        self._etag = first.etag
        self._size = first.total
        self._at = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict({0: first.data})

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be read anywhere."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; costs nothing."""
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if at < 0:
            raise ValueError("a position before the beginning")
        self._at = at
        return at

    def readinto(self, buffer: Any) -> int:
        """Read some bytes; a large piece takes one request, a small one that of its block, or none."""
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        if wanted >= 2 * BLOCK:
            found = self._ask(self._at, min(wanted, _MOST), self._etag).data
        else:
            number, within = divmod(self._at, BLOCK)
            found = self._block(number)[within : within + wanted]
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def readall(self) -> bytes:
        """Read the rest: few requests."""
        pieces = []
        buffer = bytearray(_MOST)
        while count := self.readinto(buffer):
            pieces.append(bytes(buffer[:count]))
        return b"".join(pieces)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            self._blocks[number] = self._ask(number * BLOCK, BLOCK, self._etag).data
            if len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]
