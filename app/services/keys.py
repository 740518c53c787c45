"""Keys of the API: made, listed, revoked, exchanged; and who it is that comes with one."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from app.db.models import Key
from app.db.session import UnitOfWork
from app.domain.access import Caller, digest_of, is_digest_of, new_key, prefix_of, scopes_of
from app.domain.errors import KeyInvalid, KeyNotFound, KeyOver
from app.services.queries import utc_now

if TYPE_CHECKING:
    from app.context import Context

audit = logging.getLogger("volcal.audit")

_MANY = 4096
_USED_EVERY = timedelta(hours=1)


def create(
    work: UnitOfWork,
    *,
    name: str,
    owner: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    rate: int | None = None,
) -> tuple[Key, str]:
    """Make a key; the caller commits it.

    Args:
        work: The transaction.
        name: For people.
        owner: Whose tasks it sees and creates.
        scopes: Words of ``Scope``; those that a scope includes are added.
        expires_at: When it stops working; None is never.
        rate: Requests a minute; None is what the deployment chose, 0 no limit.

    Returns:
        The row, and the key itself, which is kept nowhere and can be shown only now.
    """
    prefix, secret = new_key()
    key = Key(
        prefix=prefix,
        digest=digest_of(secret),
        name=name,
        owner=owner,
        scopes=" ".join(sorted(scopes_of(scopes))),
        rate=rate,
        created_at=utc_now(),
        expires_at=expires_at,
    )
    work.session.add(key)
    work.session.flush()
    work.after_commit(partial(_tell, "key created", key))
    return key, secret


def everything(work: UnitOfWork) -> list[Key]:
    """Return all keys, also revoked ones, by owner and age."""
    return list(work.session.execute(select(Key).order_by(Key.owner, Key.created_at, Key.prefix)).scalars())


def find(work: UnitOfWork, prefix: str) -> Key:
    """Return a key by its public part.

    Raises:
        KeyNotFound: If there is none.
    """
    key = work.session.get(Key, prefix, with_for_update=True)
    if key is None:
        raise KeyNotFound(prefix)
    return key


def revoke(work: UnitOfWork, prefix: str) -> Key:
    """Make a key useless, within seconds on every gateway; doing so twice is harmless. The caller commits it.

    Raises:
        KeyNotFound: If there is none.
    """
    key = find(work, prefix)
    if key.revoked_at is None:
        key.revoked_at = utc_now()
        work.session.flush()
        work.after_commit(partial(_tell, "key revoked", key))
    return key


def rotate(work: UnitOfWork, prefix: str, *, grace: timedelta = timedelta(0)) -> tuple[Key, str]:
    """Put a fresh key in the place of one; the caller commits it.

    Args:
        work: The transaction.
        prefix: Public part of the old key.
        grace: How long the old one goes on working.

    Returns:
        The new row, and the new key itself.

    Raises:
        KeyNotFound: If there is no such key.
        KeyOver: If it is revoked or expired: what nobody may use is not exchanged.
    """
    old = find(work, prefix)
    if why := _why_not(old, utc_now()):
        raise KeyOver(why)
    fresh, secret = create(
        work, name=old.name, owner=old.owner, scopes=old.scopes.split(), expires_at=old.expires_at, rate=old.rate
    )
    if not grace:
        revoke(work, prefix)
    else:
        end = utc_now() + grace
        old.expires_at = end if old.expires_at is None else min(end, old.expires_at)
        work.session.flush()
        work.after_commit(partial(_tell, "key expires", old))
    return fresh, secret


def _tell(event: str, key: Key) -> None:
    about = {"key": key.prefix, "key_name": key.name, "owner": key.owner, "scopes": key.scopes}
    audit.info(event, extra=about)


def _why_not(key: Key, now: datetime) -> str | None:
    if key.revoked_at is not None:
        return "was revoked"
    if key.expires_at is not None and key.expires_at <= now:
        return f"expired at {key.expires_at:%Y-%m-%d %H:%M} UTC"
    return None


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found about a key, and until when that may be believed."""

    caller: Caller | None
    why: str
    until: float
    expires_at: datetime | None = None


class KeyRing:
    """Says who comes with a key, from memory where that is fresh enough.

    What was found is believed for ``memory_s`` seconds, so revoking takes effect so much later at most, on every
    gateway. Keys themselves are not kept in memory, only their digests.

    Args:
        context: The application's parts, as nobody in particular sees them.
        fixed: By digest, who comes with a key of the settings.
        memory_s: How long an answer of the database is believed.
        clock: Seconds; a parameter for tests.
    """

    def __init__(
        self,
        context: "Context",
        fixed: Mapping[str, Caller],
        *,
        memory_s: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context = context
        self._fixed = fixed
        self._memory_s = memory_s
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()
        self._any, self._any_until = bool(fixed), float("-inf")

    def recalls_any(self) -> bool | None:
        """Return whether there is a key at all; None if the database must be asked. There is one for ever after."""
        return self._any if self._any or self._clock() < self._any_until else None

    def any(self) -> bool:
        """Return whether there is, or ever was, a key: revoking the last one opens nothing."""
        with self._context.unit_of_work(read_only=True) as work:
            self._any = work.session.execute(select(Key.prefix).limit(1)).first() is not None
        self._any_until = self._clock() + self._memory_s
        return self._any

    def is_fixed(self, key: str) -> bool:
        """Return whether it is a key of the settings."""
        return digest_of(key) in self._fixed

    def recall(self, key: str) -> Caller | None:
        """Return who comes with a key; None if the database must be asked.

        Raises:
            KeyInvalid: If it is known to be no good.
        """
        digest = digest_of(key)
        if (caller := self._fixed.get(digest)) is not None:
            return caller
        if prefix_of(key) is None:
            raise KeyInvalid
        known = self._known.get(digest)
        if known is None or known.until <= self._clock():
            return None
        if known.caller is None or (known.expires_at is not None and known.expires_at <= utc_now()):
            raise KeyInvalid(known.why)
        return known.caller

    def ask(self, key: str) -> Caller:
        """Return who comes with a key, by the database; for a thread.

        Raises:
            KeyInvalid: If it is no good.
        """
        now = utc_now()
        with self._context.unit_of_work(read_only=True) as work:
            row = work.session.get(Key, prefix_of(key) or "")
        if row is None or not is_digest_of(row.digest, key):
            known = _Known(None, "is not known here", self._clock() + self._memory_s)
        elif why := _why_not(row, now):  # said to who has the key itself only
            known = _Known(None, why, self._clock() + self._memory_s)
        else:
            caller = Caller(row.owner, row.prefix, row.name, scopes_of(row.scopes.split()), row.rate)
            known = _Known(caller, "has expired", self._clock() + self._memory_s, row.expires_at)
            if row.used_at is None or now - row.used_at > _USED_EVERY:
                self._note(row.prefix, now)
        self._keep(digest_of(key), known)
        if known.caller is None:
            raise KeyInvalid(known.why)
        return known.caller

    def _keep(self, digest: str, known: _Known) -> None:
        with self._lock:
            if len(self._known) >= _MANY:
                now = self._clock()
                self._known = {name: each for name, each in self._known.items() if each.until > now and each.caller}
            if len(self._known) < _MANY:
                self._known[digest] = known

    def _note(self, prefix: str, now: datetime) -> None:
        try:
            with self._context.unit_of_work() as work:
                work.session.execute(update(Key).where(Key.prefix == prefix).values(used_at=now))
                work.commit()
        except SQLAlchemyError:
            audit.exception("that a key is used could not be noted", extra={"key": prefix})
