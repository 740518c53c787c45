"""Column types whose Python side is the same on SQLite and PostgreSQL."""

# ruff: noqa: ARG002  (the dialect is part of SQLAlchemy's signature)

from datetime import UTC, datetime

from sqlalchemy import DateTime, String
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from app.domain.tasks import TaskState


class UtcDateTime(TypeDecorator[datetime]):
    """An instant; always aware and in UTC on the Python side, since SQLite forgets time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store as UTC.

        Raises:
            ValueError: If the value has no time zone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class StateType(TypeDecorator[TaskState]):
    """A task's state, kept as its word: adding a state needs no migration."""

    impl = String(16)
    cache_ok = True

    def process_bind_param(self, value: TaskState | None, dialect: Dialect) -> str | None:
        """Store the word."""
        return None if value is None else TaskState(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> TaskState | None:
        """Return the state."""
        return None if value is None else TaskState(value)
