"""The tables. The row of a task is the truth about it; everything else is a hint."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, Integer, MetaData, String, Text, Uuid, false, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from app.db.types import StateType, UtcDateTime
from app.domain.tasks import TaskState, UploadState

NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

_WAITS = text("state = 'pending' AND deleted_at IS NULL")


class Base(DeclarativeBase):
    """Parent of all tables; constraints are named, so that later migrations can speak of them."""

    metadata = MetaData(naming_convention=NAMES)


class Task(Base):
    """What a user asked for, and how far it is. All times are UTC."""

    __tablename__ = "tasks"
    __table_args__ = (
        Index("ix_tasks_state_lease", "state", "lease_until"),
        Index("ix_tasks_created", "created_at", "id"),
        Index("ix_tasks_finished", "finished_at"),
        Index("ix_tasks_state_pipeline", "state", "pipeline"),
        Index("ix_tasks_owner_created", "owner", "created_at", "id"),
        Index("ix_tasks_owner_state", "owner", "state", "created_at", "id"),
        Index("ix_tasks_owner_pipeline", "owner", "pipeline", "created_at", "id"),
        Index("ix_tasks_state_created", "state", "created_at", "id"),
        Index("ix_tasks_line", "queue", "queued_at", postgresql_where=_WAITS, sqlite_where=_WAITS),
    )

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), default="", server_default="")  # never changes; empty: nobody's
    pipeline: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(200), default="", server_default="")  # for people; means nothing
    options: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[TaskState] = mapped_column(StateType)
    step: Mapped[int] = mapped_column(Integer, default=0, server_default="0")  # of its pipeline's steps
    queue: Mapped[str] = mapped_column(
        String(64), default="", server_default=""
    )  # where the step waits; empty = default
    stage: Mapped[str] = mapped_column(String(64), default="")
    progress: Mapped[float] = mapped_column(Float, default=0.0)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    fence: Mapped[int] = mapped_column(Integer, default=0)  # grows with each lease; old holders cannot write
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    worker: Mapped[str] = mapped_column(String(128), default="")
    cancel_requested: Mapped[bool] = mapped_column(default=False, server_default=false())
    document: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # the result, once done
    artifacts: Mapped[list[dict[str, Any]] | None] = mapped_column(
        JSON(none_as_null=True)
    )  # name, media_type, title, key, size
    error: Mapped[dict[str, Any] | None] = mapped_column(
        JSON(none_as_null=True)
    )  # code, label, message, remedy, details
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    queued_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    dispatched_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # when the doorbell last rang
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # unseen from then on; the janitor clears up
    callback_url: Mapped[str | None] = mapped_column(String(2048))  # who is told when it ends; may hold a secret
    eta_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # when the run under way is expected to be done
    log_lines: Mapped[int] = mapped_column(Integer, default=0, server_default="0")  # ever: the number of the next
    log_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")  # of all of them

    uploads: Mapped[list["Upload"]] = relationship(
        back_populates="task",
        order_by="Upload.created_at",
        cascade="save-update, merge, delete, delete-orphan, expunge",  # refreshing a task leaves its uploads alone
        passive_deletes=True,
    )


class StepRun(Base):
    """One step of a task whose pipeline has several; a step that has not begun has no row."""

    __tablename__ = "steps"

    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    document: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # what it handed on, once done
    artifacts: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))  # as those of a task
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # as that of a task


class TaskPart(Base):
    """A part of a task under way that another worker than the one that runs it may do."""

    __tablename__ = "task_parts"

    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    fence: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)  # of the lease that shares it
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer, default=0)  # of helpers
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)  # of a helper; null: the lead does it itself
    worker: Mapped[str] = mapped_column(String(128), default="")
    job: Mapped[dict[str, Any]] = mapped_column(JSON)  # function, arguments, inputs, files
    left: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # what a helper left: result, files


class LogLine(Base):
    """One line of what happened to a task, for whoever may see the task; the oldest go where there are too many."""

    __tablename__ = "log_lines"

    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)  # from 0, without gaps
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    level: Mapped[str] = mapped_column(String(16))
    stage: Mapped[str] = mapped_column(String(64), default="")
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    message: Mapped[str] = mapped_column(Text)
    begins: Mapped[int] = mapped_column(BigInteger)  # bytes of all lines before it


class Aged(Base):
    """That a task was there once, and was deleted for its age."""

    __tablename__ = "aged_tasks"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class Upload(Base):
    """One file that a client sends, or names by a URL; a label has at most one that is not superseded."""

    __tablename__ = "uploads"
    __table_args__ = (
        Index("ix_uploads_task", "task_id"),
        Index("ix_uploads_handle", "handle"),
        Index("ix_uploads_state", "state"),
        Index("ix_uploads_due", "due_at"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)  # unguessable
    handle: Mapped[str] = mapped_column(String(1024), default="", server_default="")  # what the upload gateway calls it
    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"))
    label: Mapped[str] = mapped_column(String(32))
    key: Mapped[str] = mapped_column(String(255))  # where the store has, or will have, the bytes
    filename: Mapped[str] = mapped_column(String(255), default="")
    state: Mapped[str] = mapped_column(String(16), default=UploadState.OPEN)
    size: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # Of one that is fetched from a URL instead:
    source: Mapped[str] = mapped_column(String(255), default="", server_default="")  # host; empty: a client sends it
    url: Mapped[str | None] = mapped_column(String(2048))  # while it is to be fetched; may hold a secret
    received: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    reached: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")  # most that an attempt has left
    length: Mapped[int | None] = mapped_column(BigInteger)  # as its host says
    validator: Mapped[str] = mapped_column(String(512), default="", server_default="")  # of the version that is fetched
    fence: Mapped[int] = mapped_column(Integer, default=0, server_default="0")  # grows with each claim
    failures: Mapped[int] = mapped_column(Integer, default=0, server_default="0")  # in a row without a new byte
    due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # while it is claimed: when the claim runs out
    moved_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # when its last byte came

    task: Mapped[Task] = relationship(back_populates="uploads")


class Repeat(Base):
    """Which task a request with an Idempotency-Key has created, or is about to."""

    __tablename__ = "repeats"
    __table_args__ = (Index("ix_repeats_created", "created_at"),)

    owner: Mapped[str] = mapped_column(String(64), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)  # of the key
    fingerprint: Mapped[str] = mapped_column(String(64))  # of the request
    token: Mapped[str] = mapped_column(String(32))  # of whoever has claimed it
    task_id: Mapped[UUID | None] = mapped_column(Uuid)  # no foreign key: a deleted task is not made anew
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    claimed_until: Mapped[datetime] = mapped_column(UtcDateTime)


class Delivery(Base):
    """Something that a receiver is to be told, once: that at a task's ``callback_url``, or a webhook's."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index("ix_deliveries_task", "task_id"),
        Index("ix_deliveries_state_due", "state", "due_at"),
        Index("ix_deliveries_webhook_created", "webhook_id", "created_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    task_id: Mapped[UUID | None] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"))  # null: of a ping
    webhook_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("webhooks.id", ondelete="CASCADE")
    )  # null: the task's own
    event: Mapped[str] = mapped_column(String(32))
    host: Mapped[str] = mapped_column(String(255))  # of the receiver, so that a slow one holds up no other
    url: Mapped[str | None] = mapped_column(String(2048))  # of the receiver; null: the task's callback_url
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)  # the task as it was then
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    tries: Mapped[list[dict[str, Any]]] = mapped_column(JSON)  # of each attempt: at, status, error, seconds
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)  # while it is claimed: when the claim runs out
    settled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class OgcOrder(Base):
    """How the answer to a task is wanted that was asked for by OGC API - Processes."""

    __tablename__ = "ogc_orders"

    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    response: Mapped[str] = mapped_column(String(16))  # raw or document
    outputs: Mapped[dict[str, str]] = mapped_column(JSON)  # by label: value or reference
    subscriber: Mapped[dict[str, str]] = mapped_column(JSON)  # successUri, inProgressUri, failedUri; may hold secrets


class Webhook(Base):
    """A standing subscription of an owner to what happens to their tasks."""

    __tablename__ = "webhooks"
    __table_args__ = (Index("ix_webhooks_owner", "owner"),)

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(100))  # for people
    url: Mapped[str] = mapped_column(String(2048))  # may hold a secret
    host: Mapped[str] = mapped_column(String(255))
    events: Mapped[list[str]] = mapped_column(JSON)
    pipelines: Mapped[list[str]] = mapped_column(JSON)  # empty: all
    salt: Mapped[str] = mapped_column(String(64))  # of which, and of the deployment's secret, its own is made
    mark: Mapped[str] = mapped_column(String(16))  # of the secret that was shown
    old_salt: Mapped[str | None] = mapped_column(String(64))  # of the secret before, while both are good
    old_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    failing_since: Mapped[datetime | None] = mapped_column(UtcDateTime)  # the first failure since it was last heard
    disabled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    disabled_why: Mapped[str] = mapped_column(String(16), default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Key(Base):
    """A key of the API; whoever reads this row cannot make the key from it."""

    __tablename__ = "keys"
    __table_args__ = (Index("ix_keys_owner", "owner"),)

    prefix: Mapped[str] = mapped_column(String(16), primary_key=True)  # its public part
    digest: Mapped[str] = mapped_column(String(64))  # SHA-256 of the whole key, hexadecimal
    name: Mapped[str] = mapped_column(String(100))  # for people
    owner: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[str] = mapped_column(String(64))  # with spaces
    rate: Mapped[int | None] = mapped_column(Integer)  # requests a minute; null: what the deployment chose; 0: no limit
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # to the hour
