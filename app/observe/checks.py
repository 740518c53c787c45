"""Whether each part of the service answers, in words for operators; quick to ask, also when a part hangs."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from app.context import Context
from app.db import vitals
from app.domain.ports import Checks
from app.observe.masking import Mask
from app.observe.probe import Probe

PATIENCE_S = 3.0
GOOD_FOR_S = 1.5
WORKER_SILENT_S = 60.0
BEAT_SILENT_S = 60.0
_LONGEST = 300
_mask = Mask()

Ask = Callable[[], str | None]
"""Returns what is wrong, or None; whatever it raises is what is wrong."""


@dataclass(frozen=True, slots=True)
class Health:
    """What a look at every part found.

    Args:
        problems: Because of which the service cannot do its work.
        degraded: What limps: work is taken and kept, and done later.
        parts: Whether each part answers, by its name.
    """

    problems: list[str] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    parts: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    called: str  # in a sentence
    probe: Probe[str | None]
    needed: bool  # whether the service is not ready without it


class Readiness:
    """Looks at every part, side by side, at most once in a while.

    Args:
        context: The application's parts.
        patience_s: Longest time that a look takes, seconds.
        good_for_s: How long what was found is told again, seconds.
    """

    def __init__(self, context: Context, *, patience_s: float = PATIENCE_S, good_for_s: float = GOOD_FOR_S) -> None:
        self._patience_s = patience_s

        def part(name: str, called: str, ask: Ask, *, needed: bool = True) -> _Part:
            return _Part(name, called, Probe(ask, patience_s=patience_s, good_for_s=good_for_s), needed)

        self._parts = [
            part("database", "the database", lambda: _tables(context)),
            part("store", "the object store", lambda: _answers(context.store)),
            part("uploads", "the upload endpoint", lambda: _answers(context.uploads)),
            part("disk", "the data folder", lambda: _disk(context)),
            part("broker", "the broker", lambda: _answers(context.queue), needed=False),
            part("signs", "the table of workers", lambda: _signs(context), needed=False),
        ]

    def look(self) -> Health:
        """Return what is wrong; takes no longer than one's patience."""
        for part in self._parts:
            part.probe.begin()
        health = Health()
        for part in self._parts:
            wrong = self._ask(part)
            health.parts[part.name] = wrong is None
            if wrong is not None:
                (health.problems if part.needed else health.degraded).append(wrong)
        if not health.parts["database"]:  # which says it all
            health.degraded[:] = [wrong for wrong in health.degraded if not wrong.startswith("the table of workers")]
        health.parts.pop("signs")
        return health

    def _ask(self, part: _Part) -> str | None:
        later = "" if part.needed else ": tasks are kept, and run once it does"
        try:
            return part.probe.answer()
        except TimeoutError:
            return f"{part.called} did not answer within {self._patience_s:g} s{later}"
        except Exception as error:  # noqa: BLE001  (whatever it is, it is the answer)
            return f"{part.called} does not answer ({told(error)}){later}"


def told(error: BaseException) -> str:
    """Return an error in one line, without secrets."""
    said = " ".join(str(error).split("\n(Background")[0].split())
    kind = type(error).__name__
    return _mask(f"{kind}: {said}" if said else kind)[:_LONGEST]


def _tables(context: Context) -> str | None:
    from app.db import migrate  # Alembic takes its time, and most processes never need it

    return (
        None
        if migrate.is_current(context.engine)
        else "the database's tables are not up to date: run `volcal db upgrade`"
    )


def _answers(part: object) -> None:
    if isinstance(part, Checks):
        part.check()


def _disk(context: Context) -> str | None:
    if context.data_dir is None:
        return None
    try:
        with tempfile.TemporaryFile(dir=context.data_dir) as probe:
            probe.write(b"volcal")
    except OSError as error:
        return f"the data folder cannot be written ({os.strerror(error.errno or 0)})"
    free, wanted = shutil.disk_usage(context.data_dir).free, context.policy.min_free_bytes
    return None if free >= wanted else f"only {free >> 20} MiB of disk are free, {wanted >> 20} MiB are wanted"


def _signs(context: Context) -> str | None:
    with context.unit_of_work(read_only=True) as work:
        found = vitals.signs(work.session, since=work.now() - timedelta(seconds=max(WORKER_SILENT_S, BEAT_SILENT_S)))
    kinds = {sign.kind for sign in found}
    return "; ".join(_silent(kinds)) or None


def _silent(kinds: set[str]) -> Iterator[str]:
    if "worker" not in kinds:
        yield f"no worker was seen for {WORKER_SILENT_S:g} s: tasks wait for one"
    if "beat" not in kinds:
        yield f"the reaper (`volcal beat`) was not seen for {BEAT_SILENT_S:g} s: lost tasks stay lost"
