"""Looks at the servers that the service stands on: database, broker, object store, tusd; and at their clocks."""

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from app.cli.doctor.finding import Finding, note
from app.observe.checks import told
from app.settings import Settings

PATIENCE_S = 10.0
_SKEW_S, _HOPELESS_S = 30.0, 900.0  # from a quarter of an hour on, S3 refuses every signature
_PROBE = b"a doctor was here"


def database(settings: Settings) -> Finding:
    """Connect, and compare the tables."""
    from app.db import migrate
    from app.db.session import make_engine
    from app.wiring import database_url

    url = database_url(settings)
    kind = url.partition(":")[0]
    if kind == "sqlite" and not Path(url.removeprefix("sqlite:///")).exists():
        return Finding(good=False, said="there is none yet", remedy="`volcal up` makes it, or `volcal db upgrade`.")
    engine = make_engine(url)
    try:
        current = migrate.is_current(engine)
    except Exception as error:  # noqa: BLE001  (of whichever driver)
        reason = str(error).splitlines()[0]
        return Finding(good=False, said=f"{kind} does not answer: {reason}", remedy="Start it, or mend DATABASE_URL.")
    finally:
        engine.dispose()
    remedy = "Run `volcal db upgrade` (in the full stack: `volcal setup`)."
    return Finding(good=current, said=f"{kind}, tables {'up to date' if current else 'out of date'}", remedy=remedy)


def broker(settings: Settings) -> Finding:
    """Connect, and ask Redis whether it would drop messages."""
    from app.queue.celery import CeleryQueue
    from app.wiring import broker_url

    url = broker_url(settings)
    kind = "a folder" if url.startswith("filesystem:") else url.partition(":")[0]
    try:
        CeleryQueue(url).check()
    except Exception as error:  # noqa: BLE001  (of whichever broker's library)
        remedy = "Start it, or mend CELERY_BROKER_URL. Meanwhile tasks wait; none is lost."
        return Finding(good=False, said=f"{kind} does not answer: {error}", remedy=remedy)
    if kind in {"redis", "rediss"}:
        return _redis(url)
    if kind.endswith(("amqp", "amqps")):
        longest = int((settings.run_timeout_s + 3600) * 1000)
        said = f"{kind} answers; its consumer_timeout, which it does not tell, should be at least {longest} ms"
        return Finding(good=True, said=said)
    return Finding(good=True, said=f"{kind} answers")


def _redis(url: str) -> Finding:
    from redis import Redis
    from redis.exceptions import RedisError

    with Redis.from_url(url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S) as client:
        try:
            memory: Any = client.info("memory")
            disk: Any = client.info("persistence")
        except RedisError as error:
            return note(f"redis answers, but does not tell about itself: {error}", "Let this user run INFO.")
    wrong = []
    if (policy := memory.get("maxmemory_policy", "noeviction")) != "noeviction" and memory.get("maxmemory"):
        wrong.append((f"drops keys when its memory is full ({policy})", "maxmemory-policy noeviction"))
    if not disk.get("aof_enabled"):
        wrong.append(("forgets its messages when it restarts", "appendonly yes"))
    if not wrong:
        return Finding(good=True, said="redis answers, keeps its messages on disk and drops none")
    said = " and ".join(what for what, _ in wrong)
    cure = ", ".join(setting for _, setting in wrong)
    return note(f"redis answers, but {said}", f"Set {cure}. Until then the reaper sends again what is lost.")


def store(settings: Settings) -> Finding | None:
    """Write, read, link and delete an object, as uploads and results do; None if objects are local files."""
    from app.wiring import build_context

    if settings.s3_endpoint is None:
        return None
    kept = build_context(settings).store
    key = f"doctor/{uuid4().hex}"
    where = f"bucket {settings.s3_bucket} at {settings.s3_endpoint}"
    try:
        with tempfile.TemporaryDirectory() as scratch:
            (source := Path(scratch) / "source").write_bytes(_PROBE)
            kept.put(key, source)
            try:
                kept.fetch(key, target := Path(scratch) / "target")
                same = target.read_bytes() == _PROBE
                link = kept.url(key, expires_s=60)
                seen = _fetch(link)
            finally:
                kept.delete_prefix(key)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is the finding)
        remedy = "Start it, or mend MINIO_ENDPOINT, its keys, or the bucket: `volcal setup` makes it."
        return Finding(good=False, said=f"{where}: {told(error)}", remedy=remedy)
    if not same:
        return Finding(good=False, said=f"{where} gives back other bytes than it was given", remedy="Replace it.")
    if seen is not None:
        public = urlsplit(link)
        remedy = (
            "Clients must reach VOLCAL_S3_PUBLIC_ENDPOINT, and whatever is in front of the store must pass the Host "
            "header on as it came. If only this machine cannot reach it, all is well."
        )
        return note(f"{where} works, but a link to {public.scheme}://{public.netloc} does not: {seen}", remedy)
    return Finding(good=True, said=f"{where} can be written, read and deleted, and its links work")


def _fetch(link: str) -> str | None:
    """Return what is wrong with a link that a client would be given."""
    try:
        answer = httpx.get(link, timeout=PATIENCE_S, trust_env=False)
    except httpx.HTTPError as error:
        return type(error).__name__
    return None if answer.content == _PROBE else f"it answers {answer.status_code}"


def uploads(settings: Settings) -> Finding | None:
    """Open an upload at tusd as the gateway does, and another as a stranger would; None without a tusd."""
    from app.domain.keys import input_key
    from app.wiring import build_context

    if settings.tus_endpoint is None:
        return None
    gateway = build_context(settings).uploads
    task_id, name = uuid4(), uuid4().hex
    key = input_key(task_id, "doctor", name)
    try:
        handle = gateway.open(name, key=key, filename="", task_id=task_id, label="doctor")
        gateway.discard(handle)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is the finding)
        remedy = (
            "Start it, or mend TUS_ENDPOINT. Its -hooks-http must be the gateway's "
            "/tusd_hook?secret=VOLCAL_HOOK_SECRET, and its -hooks-enabled-events must have pre-create."
        )
        return Finding(good=False, said=told(error), remedy=remedy)
    endpoint = settings.tus_endpoint.rstrip("/")
    headers = {"Tus-Resumable": "1.0.0", "Upload-Defer-Length": "1"}
    answer = httpx.post(f"{endpoint}/", headers=headers, timeout=PATIENCE_S, trust_env=False)
    if answer.is_success:
        remedy = "Its -hooks-enabled-events must have pre-create, and -hooks-http must lead to this gateway."
        return Finding(good=False, said=f"{endpoint} lets anybody open uploads", remedy=remedy)
    return Finding(good=True, said=f"{endpoint} opens uploads for the gateway, and for nobody else")


def clock(settings: Settings) -> Finding | None:
    """Compare this machine's clock with the servers'; None if there is none to compare with."""
    skews = dict(_skews(settings))
    if not skews:
        return None
    worst = max(skews.values(), key=abs)
    said = ", ".join(f"{name} {skew:+.0f} s" for name, skew in skews.items())
    if abs(worst) < _SKEW_S:
        return Finding(good=True, said=f"agrees with the servers' ({said})")
    remedy = "Let every machine keep its time by NTP: leases and links depend on it."
    return Finding(good=False, said=f"differs from the servers': {said}", remedy=remedy, fatal=abs(worst) > _HOPELESS_S)


def _skews(settings: Settings) -> Iterator[tuple[str, float]]:
    """Yield by how many seconds each server's clock is ahead of ours; who does not answer is left out."""
    if settings.s3_endpoint is not None:
        try:
            sent = time.time()
            answer = httpx.get(settings.s3_endpoint, timeout=PATIENCE_S, trust_env=False)
            theirs = parsedate_to_datetime(answer.headers["Date"]).timestamp()
            yield "object store", theirs - (sent + time.time()) / 2
        except (httpx.HTTPError, KeyError, ValueError):
            pass
    if settings.database_url and not settings.database_url.startswith("sqlite"):
        from sqlalchemy import func, select

        from app.db.session import make_engine

        engine = make_engine(settings.database_url)
        try:
            with engine.connect() as connection:
                now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
                yield "database", (now - datetime.now(UTC)).total_seconds()
        except Exception:  # noqa: BLE001, S110  (the database's own look says so)
            pass
        finally:
            engine.dispose()
