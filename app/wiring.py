"""From settings to a ``Context``: the one place that chooses adapters."""

import hmac
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from app.context import Context, Policy
from app.db.session import make_engine
from app.domain.access import Caller, digest_of, scopes_of
from app.domain.fetching import FileSource
from app.domain.ports import ObjectStore, RateLimiter, UploadGateway
from app.limiting.local import LocalLimiter
from app.outbound import AllowList, BoundedFetcher, GuardedClient, Limits, WebFiles
from app.queue.celery import CeleryQueue
from app.services.images.parts import ImageLimits, Images
from app.settings import Settings
from app.storage.local import LocalStore
from app.uploads.tus import Shelf, TusUploads
from app.uploads.tusd import TusdUploads
from pipeline.registry import CATALOGUE
from pipeline.site import Site

if TYPE_CHECKING:
    from app.storage.s3 import S3Store


def build_context(settings: Settings) -> Context:
    """Put the application together: each part is the one that the settings name, or the embedded one.

    The tables and the bucket must be there: see ``prepare``.
    """
    base_url = settings.public_url.rstrip("/")
    root = settings.data_dir.resolve()
    if not is_remote(settings):
        root.mkdir(parents=True, exist_ok=True)
    store: ObjectStore
    uploads: UploadGateway
    if settings.s3_endpoint is None:
        store = local = LocalStore(root / "objects", base_url=base_url, secret=_link_secret(settings, root))
        uploads = _own_uploads(settings, local)
    else:
        store = remote = _s3_store(settings)
        uploads = _own_uploads(settings, remote) if settings.tus_endpoint is None else _tusd(settings, remote)
    return Context(
        engine=make_engine(database_url(settings)),
        store=store,
        queue=CeleryQueue(broker_url(settings)),
        uploads=uploads,
        catalogue=CATALOGUE,
        policy=_policy(settings, base_url),
        data_dir=None if is_remote(settings) else str(root),
        web=(web := build_web(settings)),
        sources=_sources(settings, web),
        limiter=_limiter(settings),
        images=build_images(settings),
        site=site_of(settings),
    )


def site_of(settings: Settings, *, logins: bool = False) -> Site:
    """Return what the deployment gives to runs; with its logins where runs are started, which is nowhere else."""
    password = settings.earthdata_password
    login = (settings.earthdata_username, password.get_secret_value()) if logins and password else None
    return Site(
        models=settings.models_dir and settings.models_dir.resolve(),
        sources=settings.sources_dir and settings.sources_dir.resolve(),
        catalogue=settings.stac_catalogue,
        earthdata=(login[0], login[1]) if login and login[0] else None,
    )


def _sources(settings: Settings, web: GuardedClient) -> dict[str, FileSource]:
    limits = Limits(
        max_bytes=settings.max_upload_bytes,
        total_s=settings.fetch_timeout_s,
        idle_s=30.0,
        connect_s=10.0,
        least_rate=1024.0,  # bytes a second: who is slower holds a place that others wait for
    )
    files = WebFiles(web, limits)
    sources: dict[str, FileSource] = {"http": files, "https": files}
    if settings.s3_endpoint is not None and settings.buckets():
        from app.storage.s3_source import BucketFiles

        sources["s3"] = BucketFiles(
            _s3_store(settings).bulk, settings.s3_endpoint, settings.buckets(), settings.max_upload_bytes
        )
    return sources


def build_web(settings: Settings) -> GuardedClient:
    """Return what calls receivers that users name."""
    return GuardedClient(
        AllowList.of(settings.fetch_allow),
        limits=Limits(total_s=settings.callback_timeout_s),
        early=settings.callback_lookup,
    )


def build_images(settings: Settings) -> Images:
    """Return the image pipelines with what they need, which is neither a database nor a store."""
    limits = ImageLimits(
        count=settings.image_max_count,
        total_bytes=settings.image_max_bytes,
        pixels=settings.image_max_pixels,
        total_s=settings.image_timeout_s,
    )
    return Images(BoundedFetcher(GuardedClient(AllowList.of(settings.fetch_allow))), limits=limits)


def prepare(settings: Settings) -> None:
    """Make what the service needs and lacks: the database's tables, the store's bucket; may be repeated.

    Raises:
        Exception: Whatever the database's driver or the store raises if it does not answer.
    """
    from app.db import migrate  # Alembic takes its time, and most processes never need it

    migrate.upgrade(database_url(settings))
    if settings.s3_endpoint is not None:
        _s3_store(settings).prepare()


def is_remote(settings: Settings) -> bool:
    """Return whether nothing that the gateway needs is in the data folder."""
    return all((settings.database_url, settings.broker_url, settings.s3_endpoint, settings.tus_endpoint))


def _own_uploads(settings: Settings, store: Shelf) -> TusUploads:
    return TusUploads(
        settings.data_dir.resolve() / "uploads",
        store,
        base_url=settings.public_url.rstrip("/"),
        max_bytes=settings.max_upload_bytes,
        ttl_s=settings.upload_ttl_s,
    )


def _s3_store(settings: Settings) -> "S3Store":
    from app.storage.s3 import S3Store  # needs boto3, which the embedded mode does without

    secret = settings.s3_secret_key
    return S3Store(
        bucket=settings.s3_bucket,
        endpoint=settings.s3_endpoint,
        public_endpoint=settings.s3_public_endpoint or settings.s3_endpoint,
        access_key=settings.s3_access_key or "",
        secret_key=secret.get_secret_value() if secret else "",
        region=settings.s3_region,
        addressing_style=settings.s3_addressing_style,
    )


def _tusd(settings: Settings, store: "S3Store") -> TusdUploads:
    secret = settings.hook_secret
    return TusdUploads(
        settings.tus_endpoint or "",
        settings.tus_public_endpoint or f"{settings.public_url.rstrip('/')}/files",
        client=store.client,
        bucket=store.bucket,
        secret=secret.get_secret_value() if secret else "",
        idle_s=settings.tus_idle_s,
    )


def database_url(settings: Settings) -> str:
    """Return the SQLAlchemy URL: the given one, or SQLite in the data folder."""
    return settings.database_url or f"sqlite:///{settings.data_dir.resolve() / 'volcal.db'}"


def broker_url(settings: Settings) -> str:
    """Return the Celery broker's URL: the given one, or a folder in the data folder."""
    url = settings.broker_url or f"filesystem://{settings.data_dir.resolve() / 'queue'}"
    if settings.broker_master and "master=" not in url.partition("?")[2]:
        url += f"{'&' if '?' in url else '?'}master={quote(settings.broker_master)}"
    return url


def _limiter(settings: Settings) -> RateLimiter:
    url = settings.rate_redis_url or settings.broker_url or ""
    if not url.startswith(("redis://", "rediss://")):
        return LocalLimiter()
    from app.limiting.shared import SharedLimiter  # needs redis, which the embedded mode does without

    return SharedLimiter(url)


def _policy(settings: Settings, base_url: str) -> Policy:
    secret = settings.hook_secret
    production = settings.app_env == "production"
    may = scopes_of(["write"])
    return Policy(
        needs_key={"auto": True if production else None, "required": True, "open": False}[settings.auth],
        legacy_needs_key={"auto": production, "required": True, "open": False}[settings.legacy_auth],
        fixed_keys={digest_of(key): Caller(owner, "settings", owner, may) for owner, key in settings.fixed_keys()},
        rate_per_key=settings.rate_per_key,
        rate_per_address=settings.rate_per_address,
        quota_tasks=settings.quota_tasks,
        quota_bytes=settings.quota_bytes,
        streams_per_caller=settings.streams_per_caller,
        quota_points=settings.quota_points,
        cors_origins=tuple(filter(None, (origin.strip() for origin in settings.cors_origins.split(",")))),
        public_url=base_url,
        idempotency_ttl_s=settings.idempotency_ttl_s,
        fetch_attempts=settings.fetch_attempts,
        fetch_timeout_s=settings.fetch_timeout_s,
        link_ttl_s=settings.link_ttl_s,
        upload_ttl_s=settings.upload_ttl_s,
        max_upload_bytes=settings.max_upload_bytes,
        max_attempts=settings.max_attempts,
        lease_s=settings.lease_s,
        redispatch_s=settings.redispatch_s,
        task_ttl_s=settings.task_ttl_s,
        min_free_bytes=settings.min_free_mb << 20,
        hook_secret=secret.get_secret_value() if secret and secret.get_secret_value() else None,
        metrics_token=settings.metrics_token.get_secret_value() if settings.metrics_token else None,
        callback_secret=callback_secret(settings),
        callback_attempts=settings.callback_attempts,
        callback_retry_s=settings.callback_retry_s,
        callback_timeout_s=settings.callback_timeout_s,
        ogc_wait_s=settings.ogc_wait_s,
        webhook_patience_s=settings.webhook_patience_s,
        quota_webhooks=settings.quota_webhooks,
    )


def callback_secret(settings: Settings) -> str | None:
    """Return what callbacks are signed with; None if nothing is set and there is no data folder to keep one in."""
    if settings.webhook_secret is not None and settings.webhook_secret.get_secret_value():
        return settings.webhook_secret.get_secret_value()
    has_key = settings.secret_key is not None and settings.secret_key.get_secret_value()
    if not has_key and is_remote(settings):
        return None
    # Derived, so that receivers, which have to know it, cannot sign links.
    return hmac.new(_link_secret(settings, settings.data_dir.resolve()), b"volcal callbacks v1", "sha256").hexdigest()


def _link_secret(settings: Settings, root: Path) -> bytes:
    if settings.secret_key is not None and settings.secret_key.get_secret_value():
        return settings.secret_key.get_secret_value().encode()
    path = root / "secret.key"
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
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
