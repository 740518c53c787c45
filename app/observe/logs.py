"""How every process of the service logs: a line tells which request, task and attempt it is about, and no secret."""

import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from app.observe.masking import Mask

LONGEST = 16_384  # characters of a message or a trace
FIRST = ("request_id", "task_id", "attempt", "worker", "stage", "code")
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_TAKEN = frozenset({"ts", "level", "logger", "message", "exception"})
_CHATTY = ("httpx", "httpcore", "alembic", "botocore", "boto3", "s3transfer", "urllib3", "kombu", "amqp", "matplotlib")

_about: ContextVar[dict[str, Any] | None] = ContextVar("volcal_log_fields", default=None)


@contextmanager
def about(**fields: Any) -> Iterator[dict[str, Any]]:
    """Let every line within the ``with`` block carry these fields, in this thread and in those that copy its context.

    Yields:
        The fields; what is added to them later stands in later lines.
    """
    known = {**(_about.get() or {}), **fields}
    token = _about.set(known)
    try:
        yield known
    finally:
        _about.reset(token)


def learn(**fields: Any) -> None:
    """Add fields to the innermost ``about``, as when a request turns out to be about a task; else do nothing."""
    if (known := _about.get()) is not None:
        known.update(fields)


def known() -> Mapping[str, Any]:
    """Return the fields that lines here carry."""
    return _about.get() or {}


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a record says beside its message: the context's fields and its own, the usual ones first."""
    own = {key: value for key, value in vars(record).items() if key not in _OWN}
    found = {**getattr(record, "about", {}), **own}
    found.pop("about", None)
    known = {key: found.pop(key) for key in FIRST if key in found}
    return {key: value for key, value in {**known, **found}.items() if value is not None and value != ""}


class _Remember(logging.Filter):
    """Gives each record the fields of the context in which it was made.

    A context within which a task is spoken of is about that task from then on: so a request that creates one, or brings
    its last file, has a line that tells which.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything pass."""
        if (fields := _about.get()) is not None and "task_id" in vars(record):
            fields.setdefault("task_id", vars(record)["task_id"])
        record.about = dict(fields or {})
        return True


class _Formatter(logging.Formatter):
    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask

    @staticmethod
    def _time(record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    @staticmethod
    def _message(record: logging.LogRecord) -> str:
        try:
            return record.getMessage()[:LONGEST]
        except Exception:  # noqa: BLE001  (a line whose arguments do not fit is still a line)
            return str(record.msg)[:LONGEST]

    def _trace(self, record: logging.LogRecord) -> str:
        parts = [self.formatException(record.exc_info)] if record.exc_info and record.exc_info[0] else []
        parts += [self.formatStack(record.stack_info)] if record.stack_info else []
        return "\n".join(parts)[-LONGEST:]


class JsonLines(_Formatter):
    """One JSON object a line: ts, level, logger, message, then what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "ts": self._time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._mask(self._message(record)),
        }
        for key, value in fields_of(record).items():
            line[f"{key}_" if key in _TAKEN else key] = self._plain(value)
        if trace := self._trace(record):
            line["exception"] = self._mask(trace)
        return json.dumps(line, ensure_ascii=False, allow_nan=False)

    def _plain(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if abs(value) < float("inf") else str(value)
        if isinstance(value, Mapping):
            return {str(key): self._plain(each) for key, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._plain(each) for each in value]
        return self._mask(str(value)[:LONGEST])


class TextLines(_Formatter):
    """One line for people: time, level, logger, message, then ``key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a trace follows on lines of its own."""
        told = " ".join(f"{key}={_word(value)}" for key, value in fields_of(record).items())
        text = f"{self._time(record)} {record.levelname} {record.name}: {self._message(record)}"
        trace = self._trace(record)
        return self._mask(text + (f"  {told}" if told else "") + (f"\n{trace}" if trace else ""))


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    plain = text.isprintable() and not any(sign in text for sign in " \"'=")
    return text if plain or not isinstance(value, str) else json.dumps(text, ensure_ascii=False)


def set_up(*, level: str = "INFO", form: str = "text", secrets: Iterable[str] = ()) -> None:
    """Make all loggers of this process write one kind of line to standard error; may be called again.

    Args:
        level: Least severe level that is written.
        form: ``text`` or ``json``.
        secrets: Values that are replaced by ``***`` wherever they stand.
    """
    mask = Mask(secrets)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(mask) if form == "json" else TextLines(mask))
    handler.addFilter(_Remember())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    quiet = max(logging.WARNING, logging.getLevelName(level))
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(quiet)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "celery", "celery.task", "celery.worker"):
        logger = logging.getLogger(name)  # whoever gave them handlers of their own: a line is written once
        logger.handlers.clear()
        logger.propagate = True
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logging.getLogger("volcal").critical("the process ends by an error", exc_info=(kind, error, trace))
