"""From settings to a ``Context``: the one place that chooses adapters."""

import os
import secrets
from pathlib import Path

from app.context import Context, Policy
from app.db.session import make_engine
from app.queue.celery import CeleryQueue
from app.settings import Settings
from app.storage.local import LocalStore
from app.uploads.tus import TusUploads
from pipeline.registry import CATALOGUE


def build_context(settings: Settings) -> Context:
    """Put the embedded mode together: SQLite or PostgreSQL, local files, the built-in tus endpoint.

    The tables must be there: see ``app.db.migrate.upgrade(database_url(settings))``.
    """
    root = settings.data_dir.resolve()
    root.mkdir(parents=True, exist_ok=True)
    base_url = settings.public_url.rstrip("/")
    store = LocalStore(root / "objects", base_url=base_url, secret=_link_secret(settings, root))
    return Context(
        engine=make_engine(database_url(settings)),
        store=store,
        queue=CeleryQueue(broker_url(settings)),
        uploads=TusUploads(
            root / "uploads",
            store,
            base_url=base_url,
            max_bytes=settings.max_upload_bytes,
            ttl_s=settings.upload_ttl_s,
        ),
        catalogue=CATALOGUE,
        policy=_policy(settings, base_url),
        data_dir=str(root),
    )


def database_url(settings: Settings) -> str:
    """Return the SQLAlchemy URL: the given one, or SQLite in the data folder."""
    return settings.database_url or f"sqlite:///{settings.data_dir.resolve() / 'volcal.db'}"


def broker_url(settings: Settings) -> str:
    """Return the Celery broker's URL: the given one, or a folder in the data folder."""
    return settings.broker_url or f"filesystem://{settings.data_dir.resolve() / 'queue'}"


def _policy(settings: Settings, base_url: str) -> Policy:
    secret = settings.hook_secret
    return Policy(
        public_url=base_url,
        link_ttl_s=settings.link_ttl_s,
        upload_ttl_s=settings.upload_ttl_s,
        max_upload_bytes=settings.max_upload_bytes,
        max_attempts=settings.max_attempts,
        lease_s=settings.lease_s,
        hook_secret=secret.get_secret_value() if secret and secret.get_secret_value() else None,
    )


def _link_secret(settings: Settings, root: Path) -> bytes:
    if settings.secret_key is not None and settings.secret_key.get_secret_value():
        return settings.secret_key.get_secret_value().encode()
    path = root / "secret.key"
    if not path.exists():
        # Gateway and worker may start together: the first link wins, everybody reads what won.
        fresh = root / f".secret.{os.getpid()}.{secrets.token_hex(4)}"
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(48))
        try:
            path.hardlink_to(fresh)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_bytes()
