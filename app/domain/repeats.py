"""What a client may give a request as its key, so that sending it twice does no more than sending it once.

The header is ``Idempotency-Key`` of draft-ietf-httpapi-idempotency-key-header: a string in quotes; without them, as
most clients send it, it is the same key.
"""

import hashlib
import json
import re
from typing import Any

from app.domain.errors import Conflict, Invalid

LONGEST = 128
_KEY = re.compile(r"[\x21-\x7e]+")


class IdempotencyKeyInvalid(Invalid):
    """The Idempotency-Key is empty, too long, or not plain text."""

    code = "IDEMPOTENCY_KEY_INVALID"

    def __init__(self) -> None:
        super().__init__(
            f"An Idempotency-Key has 1 to {LONGEST} visible characters of ASCII; a fresh UUID for each task is good."
        )


class IdempotencyKeyReused(Conflict):
    """The Idempotency-Key came with another request before."""

    code = "IDEMPOTENCY_KEY_REUSED"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key came with another body before; another request needs a key of its own.")


class IdempotencyKeyBusy(Conflict):
    """The first request with this Idempotency-Key is still under way."""

    code = "IDEMPOTENCY_KEY_BUSY"
    retry_s = 1.0

    def __init__(self) -> None:
        super().__init__("The first request with this Idempotency-Key is still under way; send it again in a moment.")


def read_key(header: str) -> str:
    """Return the key in a header.

    >>> read_key('"8e03978e-40d5"') == read_key("8e03978e-40d5")
    True

    Raises:
        IdempotencyKeyInvalid: If there is none.
    """
    text = header.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if len(text) > LONGEST or not _KEY.fullmatch(text):
        raise IdempotencyKeyInvalid
    return text


def digest_of(key: str) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def fingerprint_of(body: Any) -> str:
    """Return what is kept of a request: the same for bodies that say the same.

    >>> fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
