"""Does the part of the service in this container do its work? Exit status 0 if so; one line says why not."""

import socket
import sys
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_PATIENCE_S = 5.0
_SILENT = timedelta(seconds=60)


def gateway() -> str | None:
    """Ask the gateway whether it is ready: database, store, uploads."""
    with urllib.request.urlopen("http://127.0.0.1:8000/readyz", timeout=_PATIENCE_S) as answer:
        return None if answer.status == 200 else f"/readyz says {answer.status}"


def flower() -> str | None:
    """Ask the dashboard, which needs no password for this."""
    with urllib.request.urlopen("http://127.0.0.1:9181/healthcheck", timeout=_PATIENCE_S) as answer:
        return None if answer.status == 200 else f"/healthcheck says {answer.status}"


def worker() -> str | None:
    """Ask the worker of this container over the broker: who answers takes jobs, too."""
    from celery import Celery

    from app.queue.celery import broker_settings, common_settings
    from app.settings import Settings
    from app.wiring import broker_url

    asking = Celery("volcal", set_as_current=False)
    asking.conf.update(common_settings() | broker_settings(broker_url(Settings()), patience_s=_PATIENCE_S))
    name = f"volcal@{socket.gethostname()}"
    answers = asking.control.ping(destination=[name], timeout=_PATIENCE_S, limit=1)
    return None if answers else f"{name} does not answer over the broker"


def beat() -> str | None:
    """Look when the reaper of this container was last seen in the database."""
    from app.db import vitals
    from app.db.session import UnitOfWork, make_engine
    from app.settings import Settings
    from app.wiring import database_url

    engine = make_engine(database_url(Settings()))
    with UnitOfWork(engine) as work:
        found = vitals.signs(work.session, since=datetime.now(UTC) - _SILENT)
    mine = ("beat", socket.gethostname())
    return None if mine in [(sign.kind, sign.name) for sign in found] else f"not seen for {_SILENT.seconds} s"


PARTS: dict[str, Callable[[], str | None]] = {
    "gateway": gateway,
    "worker": worker,
    "beat": beat,
    "flower": flower,
}


def main() -> None:
    """Look at the part that the command line names."""
    try:
        problem = PARTS[sys.argv[1]]()
    except Exception as error:  # noqa: BLE001  (whatever it is, the part is not well)
        problem = f"{type(error).__name__}: {error}"
    if problem:
        sys.exit(problem)


if __name__ == "__main__":
    main()
