"""Signs of life: a worker and the reaper write into the database, every now and then, that they are there."""

import logging
import os
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Engine

from app.db import vitals
from app.db.session import UnitOfWork

log = logging.getLogger(__name__)

EVERY_S = 15.0
_FORGOTTEN = timedelta(days=7)


def sign(engine: Engine, kind: str, name: str, **details: Any) -> None:
    """Write that somebody lives, and forget those who have not been seen for a week.

    Raises:
        Exception: Whatever the database's driver raises if it does not answer.
    """
    with UnitOfWork(engine) as work:
        now = work.now()
        details = {"host": socket.gethostname(), "pid": os.getpid(), **details}
        vitals.show(work.session, kind, name, version=version("volcal-server"), details=details, now=now)
        vitals.forget_old(work.session, before=now - _FORGOTTEN)
        work.commit()


def leave(engine: Engine, kind: str, name: str) -> None:
    """Write that somebody is gone, as one who stops on purpose does."""
    with UnitOfWork(engine) as work:
        vitals.forget(work.session, kind, name)
        work.commit()


class Signs:
    """Gives a worker's signs of life for as long as the ``with`` block lasts.

    Args:
        connect: Makes an engine; a fresh one each time, since the worker forks and a connection must not be shared.
        name: Which worker.
        details: For people.
        every_s: Seconds between signs.
    """

    def __init__(self, connect: Callable[[], Engine], name: str, *, every_s: float = EVERY_S, **details: Any) -> None:
        self._connect = connect
        self._name = name
        self._every_s = every_s
        self._details = details
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="signs", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(timeout=self._every_s)

    def _run(self) -> None:
        failing = False
        while True:
            try:
                self._once(lambda engine: sign(engine, "worker", self._name, **self._details))
                failing = False
            except Exception as error:  # noqa: BLE001  (whatever the database raises: the worker goes on)
                if not failing:
                    log.warning("a sign of life could not be written, and will be tried again: %s", error)
                failing = True
            if self._over.wait(self._every_s):
                break
        try:
            self._once(lambda engine: leave(engine, "worker", self._name))
        except Exception as error:  # noqa: BLE001  (it will be forgotten anyway)
            log.debug("a sign of life could not be taken back: %s", error)

    def _once(self, write: Callable[[Engine], None]) -> None:
        engine = self._connect()
        try:
            write(engine)
        finally:
            engine.dispose()
