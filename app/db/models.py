"""The tables. The row of a task is the truth about it; everything else is a hint."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BigInteger, DateTime, Float, ForeignKey, Index, Integer, String, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from app.domain.tasks import TaskState


class Base(DeclarativeBase):
    """Parent of all tables."""


class Task(Base):
    """What a user asked for, and how far it is. All times are UTC."""

    __tablename__ = "tasks"
    __table_args__ = (Index("ix_tasks_state_lease", "state", "lease_until"),)

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    pipeline: Mapped[str] = mapped_column(String(64))
    options: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[TaskState] = mapped_column(String(16))
    stage: Mapped[str] = mapped_column(String(64), default="")
    progress: Mapped[float] = mapped_column(Float, default=0.0)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    fence: Mapped[int] = mapped_column(Integer, default=0)  # grows with each lease; old holders cannot write
    lease_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    worker: Mapped[str] = mapped_column(String(128), default="")
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    document: Mapped[dict[str, Any] | None] = mapped_column(JSON)  # the result document, once done
    artifacts: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON)  # name, media_type, title, key, size
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON)  # code, label, message, remedy, details
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    queued_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    uploads: Mapped[list["Upload"]] = relationship(
        back_populates="task", order_by="Upload.created_at", cascade="all, delete-orphan"
    )


class Upload(Base):
    """One file that a client sends; a label has at most one that is not superseded."""

    __tablename__ = "uploads"
    __table_args__ = (Index("ix_uploads_task", "task_id"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)  # unguessable; part of the URL
    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"))
    label: Mapped[str] = mapped_column(String(32))
    key: Mapped[str] = mapped_column(String(255))  # where the store has, or will have, the bytes
    filename: Mapped[str] = mapped_column(String(255), default="")
    state: Mapped[str] = mapped_column(String(16))  # open, finished, rejected, superseded
    size: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    task: Mapped[Task] = relationship(back_populates="uploads")
