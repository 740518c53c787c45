"""What lies in a store, for those who clear up and those who back up."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stored:
    """One object, or one that is being uploaded in parts.

    Args:
        key: Where it is, or will be.
        size: Bytes; 0 if it is unfinished.
        changed_at: When it was stored, or begun; UTC.
        unfinished: What the store calls the upload in parts; empty for an object.
    """

    key: str
    size: int
    changed_at: datetime
    unfinished: str = ""


class Inventory(Protocol):
    """What a store tells of itself. Every method may raise ``OSError`` if the store is away or refuses."""

    def listed(self, prefix: str) -> Iterator[Stored]:
        """Yield every object below ``prefix``, which ends with a slash or is empty; what lies together comes together.

        What is stored or deleted meanwhile may or may not come.
        """

    def unfinished(self, prefix: str) -> Iterator[Stored]:
        """Yield what is being uploaded in parts: below ``prefix`` if it ends with a slash, else for this key.

        A store may have forgotten uploads, unless it is asked for exactly their key.
        """

    def remove(self, found: Stored) -> None:
        """Delete one object, or end one upload in parts; an absent one is no error."""
