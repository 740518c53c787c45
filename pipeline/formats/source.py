"""One uploaded file as a checker sees it: its bytes, its label, and how a refusal speaks of it."""

from dataclasses import dataclass
from typing import Any, BinaryIO

from pipeline.errors import InputInvalid, InputTooLarge

CLOUD_REMEDY = "Upload the survey as LAS, LAZ, COPC, PLY or XYZ text."
AGAIN_REMEDY = "Upload the file again; if it stays the same, export it anew from the program that made it."


@dataclass(frozen=True, slots=True)
class Source:
    """A file of ``size`` bytes behind a seekable stream.

    Args:
        label: The input's label, such as ``pre``.
        stream: Seekable; only :meth:`read` touches it.
        size: Bytes in the file.
        name: The file's name as the user knows it; empty if there is none worth telling.
    """

    label: str
    stream: BinaryIO
    size: int
    name: str = ""

    def __str__(self) -> str:
        return f"{self.label} ({self.name})" if self.name and self.name != self.label else self.label

    def read(self, offset: int, count: int) -> bytes:
        """Return the bytes from ``offset``; fewer than ``count`` only at the end of the file.

        Raises:
            InputInvalid: If the file cannot be read.
        """
        count = min(count, self.size - offset)
        if offset < 0 or count <= 0:
            return b""
        try:
            self.stream.seek(offset)
            parts, left = [], count
            while left > 0 and (part := self.stream.read(left)):  # a store may return less than asked for
                parts.append(part)
                left -= len(part)
        except OSError as error:
            raise self.invalid(f"cannot be read: {error.strerror or error}", AGAIN_REMEDY) from error
        return b"".join(parts)

    def invalid(self, reason: str, remedy: str = AGAIN_REMEDY, **details: Any) -> InputInvalid:
        """Return the refusal ``<label (name)> <reason>.``."""
        return InputInvalid(f"{self} {reason}.", label=self.label, remedy=remedy, details=details)

    def truncated(self, reason: str) -> InputInvalid:
        """Return the refusal of a file that ends too early."""
        return self.invalid(f"is cut short: {reason}", "Upload the whole file again.", size=self.size)

    def too_large(self, reason: str, remedy: str, **details: Any) -> InputTooLarge:
        """Return the refusal of a file that claims more than the limits allow."""
        return InputTooLarge(f"{self} {reason}.", label=self.label, remedy=remedy, details=details)


def size_text(size: float) -> str:
    """Return a byte count for people.

    >>> size_text(812), size_text(1_260_000)
    ('812 bytes', '1.3 MB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} bytes"
