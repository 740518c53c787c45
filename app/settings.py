"""The one reader of the environment: everything a deployment may change."""

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Everything a deployment may change; the defaults are the embedded mode.

    Each field is ``VOLCAL_<NAME>``; names that other services established stay valid as aliases.
    """

    model_config = SettingsConfigDict(env_prefix="VOLCAL_", env_file=".env", extra="ignore", frozen=True)

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
    public_url: str = Field(
        default="http://127.0.0.1:8000",
        description="Base URL that clients use; every link is made from it, never from a request's Host.",
    )
    hook_secret: SecretStr | None = Field(
        default=None,
        description="Secret that /tusd_hook asks for, as ?secret=… or as Basic password; none closes the route.",
    )
    secret_key: SecretStr | None = Field(
        default=None, description="Signs links; none means one is made and kept in the data folder."
    )
    link_ttl_s: int = Field(default=900, ge=1, description="Seconds that links to pictures and files work.")
    upload_ttl_s: int = Field(default=86_400, ge=1, description="Seconds a task may wait for its files.")
    max_upload_bytes: int = Field(default=50 * 2**30, ge=1, description="Largest file accepted, bytes.")
    max_attempts: int = Field(
        default=3, ge=1, description="Attempts at a task whose worker was lost before it is killed."
    )
    lease_s: float = Field(
        default=15.0, gt=0, description="Seconds without a heartbeat after which a run counts as lost."
    )
    heartbeat_s: float = Field(default=2.0, gt=0, description="Seconds between heartbeats of a run.")
    reap_interval_s: float = Field(default=5.0, gt=0, description="Seconds between looks for lost tasks.")
    run_timeout_s: float = Field(default=4 * 3600.0, gt=0, description="Longest time a run may take, seconds.")
    run_memory_mb: int = Field(
        default=0, ge=0, description="Memory cap of a run, MiB; 0 means four fifths of the machine's."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Least severe log.")
