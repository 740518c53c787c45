"""Who calls, what they may do, and what a key looks like.

A key is ``vk_<prefix>_<secret>``: the prefix is public and names the key in lists and logs, the secret is 256 random
bits. Only the SHA-256 of the whole key is kept. A slow hash, as passwords need it, would protect nothing here: nobody
can try 2^256 secrets.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

_FORM = re.compile(r"vk_([0-9a-f]{10})_[A-Za-z0-9_-]{43}")
OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
"""What an owner is called: letters, digits and ``._@+-``."""


class Scope(StrEnum):
    """What a key is good for."""

    READ = "read"  # look at one's tasks and fetch their results
    WRITE = "write"  # create, start, cancel and delete them
    ADMIN = "admin"  # see everybody's tasks, and manage keys


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request.

    Args:
        owner: Whose tasks it may see, and whose those are that it creates; empty for who came without a key.
        key: The public part of its key; empty without one.
        name: What people call the key.
        scopes: What it may do.
        rate: Requests a minute; None is what the deployment chose, 0 no limit.
    """

    owner: str = ""
    key: str = ""
    name: str = ""
    scopes: frozenset[Scope] = field(default_factory=frozenset)
    rate: int | None = None

    @property
    def sees_all(self) -> bool:
        """Whether everybody's tasks are seen."""
        return Scope.ADMIN in self.scopes


ANYBODY = Caller(scopes=frozenset({Scope.READ, Scope.WRITE}))
"""Who came without a key, where none is needed."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so many seconds, all of them at once if need be."""

    limit: int
    window_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Taken:
    """What a limiter says of one request.

    Args:
        allowed: Whether it may go on.
        remaining: How many more may follow at once.
        reset_s: Seconds until as many as ever may follow at once.
        retry_s: Seconds until the next may come; 0 if it may come now.
    """

    allowed: bool
    remaining: int
    reset_s: float
    retry_s: float


def new_key() -> tuple[str, str]:
    """Return the public part of a fresh key, and the whole key.

    >>> prefix, key = new_key()
    >>> prefix_of(key) == prefix, len(key)
    (True, 57)
    """
    prefix = secrets.token_hex(5)
    return prefix, f"vk_{prefix}_{secrets.token_urlsafe(32)}"


def prefix_of(key: str) -> str | None:
    """Return the public part of a key; None if it has not the form of one.

    >>> prefix_of("Bearer of ill news") is None
    True
    """
    found = _FORM.fullmatch(key)
    return None if found is None else found[1]


def digest_of(key: str) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def is_digest_of(digest: str, key: str) -> bool:
    """Return whether a key is the one of which this was kept, in a time that tells nothing."""
    return hmac.compare_digest(digest, digest_of(key))


def scopes_of(words: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes that words name, with those that they include: who writes reads, an admin does both.

    >>> sorted(scopes_of(["write"]))
    [<Scope.READ: 'read'>, <Scope.WRITE: 'write'>]

    Raises:
        ValueError: If a word names none, or there is no word.
    """
    found = {Scope(word) for word in words}
    if not found:
        raise ValueError("a key has at least one scope")
    if Scope.ADMIN in found:
        found |= {Scope.WRITE}
    if Scope.WRITE in found:
        found |= {Scope.READ}
    return frozenset(found)
