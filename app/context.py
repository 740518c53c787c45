"""The long-lived parts of the application, put together once by ``app.wiring``."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import Engine

from app.db.session import UnitOfWork
from app.domain.access import Caller
from app.domain.fetching import FileSource
from app.domain.ports import JobQueue, ObjectStore, RateLimiter, UploadGateway, WebClient
from app.limiting.local import LocalLimiter
from app.outbound import BoundedFetcher, GuardedClient
from app.services.images.parts import Images
from pipeline.registry import Catalogue
from pipeline.site import Site


@dataclass(frozen=True, slots=True)
class Policy:
    """The numbers and words that a deployment chooses.

    Args:
        public_url: Base URL that clients use, without a slash at the end.
        link_ttl_s: Seconds that links to pictures and files work.
        upload_ttl_s: Seconds that a task may wait for its files.
        max_upload_bytes: Largest file accepted, bytes.
        max_attempts: Attempts at a task whose worker was lost before it is killed.
        lease_s: Seconds without a heartbeat after which a run counts as lost.
        redispatch_s: Seconds that a pending task may wait before the doorbell is rung again.
        task_ttl_s: Seconds after which a finished task is deleted; 0 keeps it.
        hook_secret: What ``/tusd_hook`` asks for; None closes the route.
        metrics_token: What ``/metrics`` asks for; None opens it to whoever reaches it.
        callback_secret: What callbacks are signed with; None refuses them.
        callback_attempts: How often to try to tell a receiver that a task ended.
        callback_retry_s: Seconds between the first attempt and the second; later pauses are longer.
        callback_timeout_s: Seconds that an attempt may take.
        webhook_patience_s: Seconds without a success after which a failing webhook is switched off.
        min_free_bytes: Free disk below which the service says that it is not ready, bytes.
        needs_key: Whether ``/api/v1`` asks for a key; None as soon as there is one.
        legacy_needs_key: Whether the routes that clients without keys use ask for one as well.
        fixed_keys: By digest, who comes with a key of the settings.
        rate_per_key: Requests a minute for each key; 0 is no limit.
        rate_per_address: Requests a minute for each address without a key; 0 is no limit.
        quota_tasks: Unfinished tasks of one owner; 0 is no limit.
        quota_bytes: Bytes of one owner's files; 0 is no limit.
        quota_points: Points of one survey of an owner; 0 is no limit.
        quota_webhooks: Webhooks of one owner; 0 is no limit.
        idempotency_ttl_s: Seconds that an Idempotency-Key is kept.
        fetch_attempts: How often in a row a fetch may bring no new byte before it is given up.
        fetch_timeout_s: Seconds that fetching one file may take in all.
        streams_per_caller: Connections that follow a task, of one key or address, to one process; 0 is no limit.
        cors_origins: Origins whose pages may read answers; ``*`` is all.
        ogc_wait_s: Seconds that an execution by OGC API - Processes waits for its result before a job is answered.
    """

    public_url: str = "http://127.0.0.1:8000"
    link_ttl_s: int = 900
    upload_ttl_s: int = 86_400
    max_upload_bytes: int = 50 * 2**30
    max_attempts: int = 3
    lease_s: float = 15.0
    redispatch_s: float = 30.0
    task_ttl_s: int = 0
    hook_secret: str | None = None
    metrics_token: str | None = None
    callback_secret: str | None = None
    callback_attempts: int = 10
    callback_retry_s: float = 5.0
    callback_timeout_s: float = 20.0
    webhook_patience_s: float = 3 * 86_400.0
    min_free_bytes: int = 512 * 2**20
    needs_key: bool | None = None
    legacy_needs_key: bool = False
    fixed_keys: Mapping[str, Caller] = field(default_factory=dict)
    rate_per_key: int = 0
    rate_per_address: int = 0
    quota_tasks: int = 0
    quota_bytes: int = 0
    quota_points: int = 0
    quota_webhooks: int = 20
    idempotency_ttl_s: int = 86_400
    fetch_attempts: int = 10
    fetch_timeout_s: float = 21_600.0
    streams_per_caller: int = 100
    cors_origins: tuple[str, ...] = ()
    ogc_wait_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Context:
    """What use cases and faces share; immutable, one a process.

    Args:
        engine: The database.
        store: Where objects live.
        queue: The doorbell of the workers.
        uploads: Receives files from clients.
        catalogue: Every pipeline there is.
        policy: What the deployment chose.
        data_dir: Folder whose disk must not be full, as text; None if nothing is kept on this machine.
        web: Calls addresses that users name.
        sources: By scheme, who has files that are named by URLs.
        limiter: Counts requests.
        images: Image pipelines, and what they need.
        site: What the deployment gives to runs, without passwords.
        viewer: For whom this is: others' tasks do not exist then; None sees all, as workers do.
    """

    engine: Engine
    store: ObjectStore
    queue: JobQueue
    uploads: UploadGateway
    catalogue: Catalogue
    policy: Policy = Policy()
    data_dir: str | None = None
    web: WebClient = field(default_factory=GuardedClient)
    sources: Mapping[str, FileSource] = field(default_factory=dict)
    limiter: RateLimiter = field(default_factory=LocalLimiter)
    images: Images = field(default_factory=lambda: Images(BoundedFetcher(GuardedClient())))
    site: Site = field(default_factory=Site)
    viewer: Caller | None = None

    @property
    def owner(self) -> str:
        """Whose a task is that is created here."""
        return "" if self.viewer is None else self.viewer.owner

    @property
    def sees_only(self) -> str | None:
        """Whose tasks there are here; None is everybody's."""
        return None if self.viewer is None or self.viewer.sees_all else self.owner

    def seen_by(self, viewer: Caller | None) -> "Context":
        """Return the same for somebody else."""
        return replace(self, viewer=viewer)

    def unit_of_work(self, *, read_only: bool = False) -> UnitOfWork:
        """Return a fresh transaction, to be used in a ``with`` block."""
        return UnitOfWork(self.engine, read_only=read_only, owner=self.sees_only)
