"""Tables that operators look at: numbers that only grow, and when each worker and reaper was last seen."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Float, SmallInteger, String, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.models import Base
from app.db.types import UtcDateTime


class Counter(Base):
    """One part of a number that only grows; its value is the sum of its shards."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    labels: Mapped[str] = mapped_column(String(512), primary_key=True)  # canonical JSON
    shard: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    value: Mapped[float] = mapped_column(Float(53))


class Sign(Base):
    """A sign of life of a process that serves no requests."""

    __tablename__ = "signs"

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)  # worker, beat
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    version: Mapped[str] = mapped_column(String(32), default="", server_default="")
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)


def show(session: Session, kind: str, name: str, *, version: str, details: dict[str, Any], now: datetime) -> None:
    """Give a sign of life; the caller commits it.

    Args:
        session: The transaction.
        kind: ``worker`` or ``beat``.
        name: Which one.
        version: Of its software.
        details: For people.
        now: The present, UTC.
    """
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    row = {"version": version[:32], "details": details, "seen_at": now}
    wanted = insert(Sign).values(kind=kind, name=name[:128], **row)
    session.execute(
        wanted.on_conflict_do_update(index_elements=[Sign.kind, Sign.name], set_=row),
        execution_options={"synchronize_session": False},
    )


def signs(session: Session, *, since: datetime) -> list[Sign]:
    """Return who was seen since a moment, by kind and name."""
    return list(session.execute(select(Sign).where(Sign.seen_at >= since).order_by(Sign.kind, Sign.name)).scalars())


def forget(session: Session, kind: str, name: str) -> None:
    """Take back a sign of life, as who stops on purpose does; the caller commits it."""
    session.execute(delete(Sign).where(Sign.kind == kind, Sign.name == name))


def forget_old(session: Session, *, before: datetime) -> None:
    """Take back the signs of those who have not been seen for long; the caller commits it."""
    session.execute(delete(Sign).where(Sign.seen_at < before))
