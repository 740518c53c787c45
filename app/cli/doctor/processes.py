"""Looks at the service's own processes: workers, the reaper, the gateway."""

import time
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import httpx

from app.cli.doctor.finding import Finding, note
from app.db import vitals
from app.observe import checks
from app.settings import Settings

_RECENT = timedelta(seconds=checks.WORKER_SILENT_S)
_MOMENT_S = 3.0  # for one that has just been started
_NOBODY = datetime.min.replace(tzinfo=UTC)


def worker(settings: Settings) -> Finding:
    """Ask who answers through the broker, and who was seen in the database."""
    from app.queue.celery import CeleryQueue
    from app.wiring import broker_url

    try:
        answering = CeleryQueue(broker_url(settings)).answering()
        silence = ""
    except Exception as error:  # noqa: BLE001  (of whichever broker's library)
        answering, silence = [], f" ({checks.told(error)})"
    seen = _seen(settings, "worker")
    if not answering and not seen:
        return Finding(good=False, said="none answers", remedy="Start one: `volcal up`, or `volcal work`.")
    told = ", ".join(_tell(sign) for sign in seen) or ", ".join(answering)
    if not answering:
        said = f"{told}, but none answers through the broker{silence}"
        return Finding(good=False, said=said, remedy="See what is said of the broker; else restart the workers.")
    mine = version("volcal-server")
    if others := sorted({sign.version for sign in seen} - {mine}):
        remedy = "Upgrade the workers too; until then a task may be run by either."
        return note(f"{told}: of version {', '.join(others)}, not {mine}", remedy)
    return Finding(good=True, said=f"{told}; {len(answering)} answer{'s' if len(answering) == 1 else ''}")


def beat(settings: Settings) -> Finding:
    """Ask the database when the reaper was last seen."""
    remedy = "Start one: `volcal up`, or `volcal beat`. Meanwhile tasks run, but what is lost stays lost."
    deadline = time.monotonic() + _MOMENT_S
    while not (seen := _seen(settings, "beat")):
        if time.monotonic() > deadline:
            return Finding(good=False, said=f"was not seen for {_RECENT.seconds} s", remedy=remedy)
        time.sleep(0.2)
    return Finding(good=True, said=", ".join(_tell(sign) for sign in seen))


def gateway(settings: Settings) -> Finding:
    """Ask the gateway whether it is ready, by the address that clients use."""
    url = settings.public_url.rstrip("/")
    remedy = "Start it (`volcal up`), or give its address by --url or VOLCAL_PUBLIC_URL."
    try:
        answer = httpx.get(f"{url}/readyz", timeout=5.0, follow_redirects=True)
        body = answer.json()
        problems, degraded = body["problems"], body.get("degraded", [])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        return Finding(good=False, said=f"{url} does not answer ({type(error).__name__})", remedy=remedy)
    if problems:
        return Finding(good=False, said=f"{url} is not ready: {'; '.join(problems)}", remedy="Mend what it says.")
    if degraded:
        return note(f"{url} is ready, but {'; '.join(degraded)}", "Mend what it says; nothing is lost meanwhile.")
    return Finding(good=True, said=f"{url} is ready")


def _seen(settings: Settings, kind: str) -> list[vitals.Sign]:
    """Return who was seen a moment ago; nobody if the database cannot say."""
    from app.db.session import UnitOfWork, make_engine
    from app.wiring import database_url

    url = database_url(settings)
    if url.startswith("sqlite") and not Path(url.removeprefix("sqlite:///")).exists():
        return []
    engine = make_engine(url)
    try:
        with UnitOfWork(engine, read_only=True) as work:
            found = vitals.signs(work.session, since=datetime.now(UTC) - _RECENT)
        return [sign for sign in found if sign.kind == kind]
    except Exception:  # noqa: BLE001  (the database's own look says so)
        return []
    finally:
        engine.dispose()


def _tell(sign: vitals.Sign) -> str:
    ago = max(0.0, (datetime.now(UTC) - sign.seen_at).total_seconds())
    return f"{sign.name} {sign.version} (seen {ago:.0f} s ago)"
