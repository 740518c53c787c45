"""The one reader of the environment: everything a deployment may change."""

from ipaddress import ip_network
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.domain.access import OWNER
from app.outbound import AllowList

_KNOWN_TO_ALL = {"changeme_in_production", "minioadminminioadmin"}  # and whatever is short, or says so
_SHORTEST = 16  # characters of a secret


class Settings(BaseSettings):
    """Everything a deployment may change; the defaults are the embedded mode.

    Each field is ``VOLCAL_<NAME>``; names that other services established stay valid as aliases. A variable that is
    set to nothing counts as not set.
    """

    model_config = SettingsConfigDict(
        env_prefix="VOLCAL_", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    app_env: Literal["development", "production"] = Field(
        default="development",
        description="In production the service refuses to start with secrets that are missing or known to all.",
        validation_alias=AliasChoices("VOLCAL_APP_ENV", "APP_ENV"),
    )
    data_dir: Path = Field(
        default=Path("var"), description="Folder of the embedded mode: database, uploads, objects, queue, logs."
    )
    database_url: str | None = Field(
        default=None,
        description="SQLAlchemy URL; none means SQLite in the data folder.",
        validation_alias=AliasChoices("VOLCAL_DATABASE_URL", "DATABASE_URL"),
    )
    broker_url: str | None = Field(
        default=None,
        description="Celery broker; none means a folder in the data folder (embedded mode).",
        validation_alias=AliasChoices("VOLCAL_BROKER_URL", "CELERY_BROKER_URL"),
    )
    broker_master: str | None = Field(
        default=None, description="Name of the master that Redis Sentinel watches, for a broker URL sentinel://…."
    )
    result_ttl_s: int = Field(
        default=86_400, ge=1, description="Seconds that the result backend keeps results of other services' jobs."
    )
    result_backend: str | None = Field(
        default=None,
        description="Celery result backend, for jobs that other services post; tasks do not use it.",
        validation_alias=AliasChoices("VOLCAL_RESULT_BACKEND", "CELERY_RESULT_BACKEND"),
    )
    queues: str = Field(
        default="", description="Queues that workers take jobs from, with commas; empty means every one there is."
    )
    helpers: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Other workers that are called to share the work on surveys in tiles; 0 means none.",
    )
    task_events: bool = Field(default=False, description="Whether workers send the events that Flower shows.")
    public_url: str = Field(
        default="http://127.0.0.1:8000",
        description="Base URL that clients use; every link is made from it, never from a request's Host.",
    )
    trusted_proxies: str = Field(
        default="127.0.0.1",
        description="Addresses and networks, with commas, of proxies whose X-Forwarded-For logs and rates believe.",
    )
    s3_endpoint: str | None = Field(
        default=None,
        description="URL of the object store as the service reaches it; none keeps objects in the data folder.",
        validation_alias=AliasChoices("VOLCAL_S3_ENDPOINT", "MINIO_ENDPOINT"),
    )
    s3_public_endpoint: str | None = Field(
        default=None, description="URL of the object store as clients reach it, for links; none means the same."
    )
    s3_access_key: str | None = Field(
        default=None,
        description="User of the object store.",
        validation_alias=AliasChoices("VOLCAL_S3_ACCESS_KEY", "MINIO_ACCESS_KEY"),
    )
    s3_secret_key: SecretStr | None = Field(
        default=None,
        description="Password of the object store.",
        validation_alias=AliasChoices("VOLCAL_S3_SECRET_KEY", "MINIO_SECRET_KEY"),
    )
    s3_bucket: str = Field(
        default="uploads",
        description="Bucket of the object store; `volcal setup` makes it.",
        validation_alias=AliasChoices("VOLCAL_S3_BUCKET", "MINIO_BUCKET"),
    )
    s3_region: str = Field(
        default="us-east-1",
        description="Region of the object store, which signatures name.",
        validation_alias=AliasChoices("VOLCAL_S3_REGION", "AWS_REGION"),
    )
    s3_addressing_style: Literal["path", "virtual", "auto"] = Field(
        default="path",
        description="Whether the bucket stands in the path or in the host name of the object store.",
        validation_alias=AliasChoices("VOLCAL_S3_ADDRESSING_STYLE", "AWS_S3_ADDRESSING_STYLE"),
    )
    tus_endpoint: str | None = Field(
        default=None,
        description="URL of a tusd with the object store, as the service reaches it; none means the built-in endpoint.",
        validation_alias=AliasChoices("VOLCAL_TUS_ENDPOINT", "TUS_ENDPOINT"),
    )
    tus_public_endpoint: str | None = Field(
        default=None, description="URL of tusd as clients reach it; none means /files below the public URL."
    )
    tus_idle_s: float = Field(
        default=30.0, gt=0, description="Seconds after its last byte before a file that tusd left behind is completed."
    )
    hook_secret: SecretStr | None = Field(
        default=None,
        description="Secret that /tusd_hook asks for, as ?secret=… or as Basic password; none closes the route.",
    )
    metrics_token: SecretStr | None = Field(
        default=None,
        description="What /metrics asks for, as Bearer token; none opens it to whoever reaches it.",
    )
    secret_key: SecretStr | None = Field(
        default=None, description="Signs links; none means one is made and kept in the data folder."
    )
    auth: Literal["auto", "required", "open"] = Field(
        default="auto",
        description="Whether /api/v1 asks for a key; auto: in production, or once there is one ([keys](keys.md)).",
    )
    legacy_auth: Literal["auto", "required", "open"] = Field(
        default="auto",
        description="The same for /create_task, /start_task, /query_task and /files; auto: in production only.",
        validation_alias=AliasChoices("VOLCAL_LEGACY_AUTH", "LEGACY_AUTH"),
    )
    api_keys: SecretStr | None = Field(
        default=None,
        description="Keys beside those of `volcal keys`, with commas: OWNER:KEY, or KEY alone; they read and write.",
        validation_alias=AliasChoices("VOLCAL_API_KEYS", "API_KEYS", "API_KEY"),
    )
    rate_per_key: int = Field(
        default=1200, ge=0, description="Requests a minute for each key that says nothing else; 0 is no limit."
    )
    rate_per_address: int = Field(
        default=0, ge=0, description="Requests a minute for each address where no key is sent; 0 is no limit."
    )
    streams_per_caller: int = Field(
        default=100,
        ge=0,
        description="Tasks that one key, or one address without a key, may follow at once in each gateway process; "
        "0 is no limit.",
    )
    rate_redis_url: str | None = Field(
        default=None,
        description="Redis in which all gateways count requests; none means the broker, if it is Redis.",
    )
    quota_tasks: int = Field(default=0, ge=0, description="Unfinished tasks that one owner may have; 0 is no limit.")
    quota_bytes: int = Field(default=0, ge=0, description="Bytes that one owner's files may hold; 0 is no limit.")
    quota_points: int = Field(
        default=0, ge=0, description="Points that a survey of a task that has an owner may have; 0 is no limit."
    )
    cors_origins: str = Field(
        default="", description="Origins, with commas, whose pages may use the API; * is all, none means no other's."
    )
    fetch_allow: str = Field(
        default="",
        description="Private hosts, host:port or networks that callbacks and what is fetched by URL may reach, with "
        "commas; none opens none.",
    )
    fetch_buckets: str = Field(
        default="",
        description="Buckets of the object store, with commas, from which files named by s3:// URLs are fetched.",
    )
    fetch_attempts: int = Field(
        default=10,
        ge=1,
        description="Attempts in a row at fetching a file that bring no new byte before it is given up.",
    )
    fetch_timeout_s: float = Field(
        default=21_600.0, gt=0, description="Seconds that fetching one file may take in all."
    )
    webhook_secret: SecretStr | None = Field(
        default=None, description="Signs callbacks; none means one is derived from the secret key."
    )
    quota_webhooks: int = Field(default=20, ge=0, description="Webhooks that one owner may have; 0 is no limit.")
    webhook_patience_s: float = Field(
        default=259_200.0, gt=0, description="Seconds without a success after which a failing webhook is switched off."
    )
    callback_lookup: bool = Field(
        default=True,
        description="Whether receivers are looked up as tasks are created; off where DNS knows only the inside.",
    )
    callback_attempts: int = Field(
        default=10, ge=1, description="Attempts at telling a receiver that a task ended before it is given up."
    )
    callback_retry_s: float = Field(
        default=5.0, gt=0, description="Seconds between the first attempt and the second; later pauses are longer."
    )
    callback_timeout_s: float = Field(
        default=20.0, gt=0, description="Seconds that one attempt at telling a receiver may take."
    )
    ogc_wait_s: float = Field(
        default=60.0,
        ge=0,
        description="Seconds that an execution by OGC API - Processes waits before a job is answered.",
    )
    link_ttl_s: int = Field(default=900, ge=1, le=604_800, description="Seconds that links to pictures and files work.")
    upload_ttl_s: int = Field(default=86_400, ge=1, description="Seconds a task may wait for its files.")
    task_ttl_s: int = Field(
        default=0, ge=0, description="Seconds after which a finished task and its files are deleted; 0 keeps them."
    )
    idempotency_ttl_s: int = Field(
        default=86_400, ge=60, description="Seconds that an Idempotency-Key is kept after its first request."
    )
    max_upload_bytes: int = Field(default=50 * 2**30, ge=1, description="Largest file accepted, bytes.")
    min_free_mb: int = Field(
        default=512, ge=0, description="Free disk below which the service says that it is not ready, MiB."
    )
    max_attempts: int = Field(
        default=3, ge=1, description="Attempts at a task whose worker was lost before it is killed."
    )
    lease_s: float = Field(
        default=15.0, gt=0, description="Seconds without a heartbeat after which a run counts as lost."
    )
    heartbeat_s: float = Field(default=2.0, gt=0, description="Seconds between heartbeats of a run.")
    reap_interval_s: float = Field(default=5.0, gt=0, description="Seconds between looks for lost tasks.")
    redispatch_s: float = Field(
        default=30.0, gt=0, description="Seconds that a queued task may wait before its message is sent again."
    )
    tidy_interval_s: float = Field(
        default=86_400.0, ge=0, description="Seconds between looks for objects that nobody needs; 0 means never."
    )
    run_timeout_s: float = Field(default=4 * 3600.0, gt=0, description="Longest time a run may take, seconds.")
    run_memory_mb: int = Field(
        default=0, ge=0, description="Memory cap of a run, MiB; 0 means four fifths of the machine's."
    )
    image_max_count: int = Field(default=100, ge=1, description="Images that one request to /process may name.")
    image_max_bytes: int = Field(
        default=64 * 2**20, ge=1, description="Bytes that the images of one request to /process may have together."
    )
    image_max_pixels: int = Field(default=50_000_000, ge=1, le=10**9, description="Pixels that an image may have.")
    image_timeout_s: float = Field(
        default=60.0, gt=0, description="Seconds that a request to /process may take, fetching included."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO",
        description="Least severe log.",
        validation_alias=AliasChoices("VOLCAL_LOG_LEVEL", "LOG_LEVEL"),
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Log lines for people, or one JSON object a line for machines."
    )

    models_dir: Path | None = Field(
        default=None,
        description="Folder of models for `raster_prediction`, a folder each; gateway and workers read it.",
        validation_alias=AliasChoices("VOLCAL_MODELS_DIR", "MODELS_DIR"),
    )
    sources_dir: Path | None = Field(
        default=None, description="Folder of further data sources for `raster_prediction`, a JSON file each."
    )
    stac_catalogue: str = Field(
        default="",
        description="STAC API or catalogue, a URL or a file, of data sources that name none of their own.",
    )
    earthdata_username: str | None = Field(
        default=None,
        description="User at NASA Earthdata, for sources whose files need a login there.",
        validation_alias=AliasChoices("VOLCAL_EARTHDATA_USERNAME", "EARTHDATA_USERNAME"),
    )
    earthdata_password: SecretStr | None = Field(
        default=None,
        description="Password at NASA Earthdata.",
        validation_alias=AliasChoices("VOLCAL_EARTHDATA_PASSWORD", "EARTHDATA_PASSWORD"),
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, level: object) -> object:
        return level.upper() if isinstance(level, str) else level

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, text: str) -> str:
        for address in [] if text == "*" else text.split(","):
            ip_network(address.strip())  # a name would be believed by nobody, silently
        return text

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, text: str) -> str:
        for origin in filter(None, (part.strip() for part in text.split(","))):
            found = urlsplit(origin)
            if origin != "*" and (
                found.scheme not in {"http", "https"} or origin != f"{found.scheme}://{found.netloc}"
            ):
                raise ValueError(f"{origin!r} is no origin such as https://maps.example.com")
        return text

    @field_validator("fetch_allow")
    @classmethod
    def _reads_as_list(cls, text: str) -> str:
        AllowList.of(text)
        return text

    @field_validator("public_url", "s3_endpoint", "s3_public_endpoint", "tus_endpoint", "tus_public_endpoint")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        if url is not None and not (url.startswith(("http://", "https://")) and urlsplit(url).hostname):
            raise ValueError(f"{url!r} is no URL; it begins with http:// or https:// and names a host")
        return url

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.s3_endpoint and not (self.s3_access_key and self.s3_secret_key):
            raise ValueError("MINIO_ENDPOINT is set, but MINIO_ACCESS_KEY and MINIO_SECRET_KEY are not")
        if (self.broker_url or "").startswith("sentinel:") and not self.broker_master:
            raise ValueError("CELERY_BROKER_URL is of Sentinels, but VOLCAL_BROKER_MASTER does not name the master")
        if self.s3_bucket in self.buckets():
            raise ValueError("VOLCAL_FETCH_BUCKETS names VOLCAL_S3_BUCKET, where everybody's files are")
        if self.tus_endpoint and not self.s3_endpoint:
            raise ValueError("TUS_ENDPOINT is set, but MINIO_ENDPOINT is not: tusd keeps its files in the object store")
        if self.tus_endpoint and not self.hook_secret:
            raise ValueError("TUS_ENDPOINT is set, but VOLCAL_HOOK_SECRET, which tusd's hooks must know, is not")
        if any(OWNER.fullmatch(owner) is None for owner, _ in self.fixed_keys()):
            raise ValueError("VOLCAL_API_KEYS holds an owner that is no name of letters, digits and ._@+-")
        if self.app_env == "production" and self.auth == "open":
            raise ValueError("APP_ENV is production, but VOLCAL_AUTH is open: anybody could do anything")
        if self.app_env == "production" and (weak := self.weak_secrets()):
            raise ValueError(
                f"APP_ENV is production, but {', '.join(weak)} {'is' if len(weak) == 1 else 'are'} missing, short or "
                "known to all; `volcal secrets >> .env` makes new ones"
            )
        return self

    def buckets(self) -> list[str]:
        """Return the buckets from which files are fetched."""
        return [name for part in self.fetch_buckets.split(",") if (name := part.strip())]

    def fixed_keys(self) -> list[tuple[str, str]]:
        """Return owner and key of each key of the settings."""
        words = self.api_keys.get_secret_value().split(",") if self.api_keys else []
        pairs = [word.strip().rpartition(":") for word in words if word.strip()]
        return [(owner or "api", key) for owner, _, key in pairs]

    def weak_secrets(self) -> list[str]:
        """Return the variables whose secrets anybody could guess, by the name that the documents use."""
        secrets: dict[str, str | None] = {}
        for name, secret in (
            ("MINIO_SECRET_KEY", self.s3_secret_key),
            ("VOLCAL_SECRET_KEY", self.secret_key),  # if there is none a good one is made
            ("VOLCAL_HOOK_SECRET", self.hook_secret),
            ("VOLCAL_WEBHOOK_SECRET", self.webhook_secret),
        ):
            if secret is not None:
                secrets[name] = secret.get_secret_value()
        if any(_is_weak(key) for _, key in self.fixed_keys()):
            secrets["VOLCAL_API_KEYS"] = None
        for name, url in (("DATABASE_URL", self.database_url), ("CELERY_BROKER_URL", self.broker_url)):
            if url and urlsplit(url).hostname:
                secrets[name] = urlsplit(url).password
        return [name for name, secret in secrets.items() if _is_weak(secret)]


def _is_weak(secret: str | None) -> bool:
    """Return whether a secret is missing, short, or one that stands in the documents.

    >>> _is_weak("minioadmin"), _is_weak("insecure-default-secret"), _is_weak("u7Qm3xPz0aLw9sKd")
    (True, True, False)
    """
    return not secret or len(secret) < _SHORTEST or secret.lower() in _KNOWN_TO_ALL or "insecure" in secret.lower()
