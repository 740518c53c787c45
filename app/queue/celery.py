"""The doorbell: posts a task's id to whichever broker, by name, without importing the worker's code."""

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from celery import Celery

JOB = "volcal.run_task"
DEFAULT_QUEUE = "celery"
_FOLDER = "filesystem"
_REDIS = {"redis", "rediss", "sentinel"}
_AMQP = {"amqp", "amqps", "pyamqp"}
_DRAIN_S = 0.4
_PATIENCE_S = 2.0  # a client waits for the answer to its request while the bell is rung


def broker_settings(broker_url: str, *, patience_s: float | None = None, visibility_s: float = 0.0) -> dict[str, Any]:
    """Return Celery's settings for a broker.

    Args:
        broker_url: ``filesystem:///folder``, or any URL that Celery knows.
        patience_s: Give up on a broker that does not answer for so long, seconds; None waits for it, as a worker does.
        visibility_s: Seconds after which Redis delivers an unacknowledged message again.
    """
    scheme = urlsplit(broker_url).scheme
    options: dict[str, Any] = {}
    if patience_s is not None:
        options["max_retries"] = 0
    if scheme == _FOLDER:
        options["folder"] = broker_url.partition("://")[2]
        if patience_s is None:
            options["drain_s"] = _DRAIN_S
        return {
            "broker_url": f"{_FOLDER}://localhost",
            "broker_transport": "app.queue.folder:Transport",
            "broker_transport_options": options,
        }
    if scheme in _REDIS:
        options |= {"socket_keepalive": True, "health_check_interval": 30}
        if visibility_s:
            options["visibility_timeout"] = visibility_s
        if patience_s is not None:
            options |= {"socket_connect_timeout": patience_s, "socket_timeout": patience_s}
    if scheme in _AMQP:
        options["confirm_publish"] = True
        if patience_s is not None:
            options |= {"read_timeout": patience_s, "write_timeout": patience_s}
    settings = {"broker_url": broker_url, "broker_transport_options": options}
    return settings if patience_s is None else settings | {"broker_connection_timeout": patience_s}


def common_settings() -> dict[str, Any]:
    """Return what those who post and those who take agree on."""
    return {
        "task_default_queue": DEFAULT_QUEUE,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_backend": None,
        "enable_utc": True,
        "timezone": "UTC",
    }


class CeleryQueue:
    """A JobQueue that posts to a broker.

    Args:
        broker_url: As for ``broker_settings``.
    """

    def __init__(self, broker_url: str) -> None:
        self._celery = Celery("volcal", set_as_current=False)
        self._celery.conf.update(common_settings() | broker_settings(broker_url, patience_s=_PATIENCE_S))

    def submit(self, task_id: UUID) -> None:
        """Post the task's id, and nothing but its id.

        Raises:
            OSError: If the broker cannot be reached in a few seconds (also kombu's ``OperationalError``).
        """
        self._celery.send_task(
            JOB,
            args=[str(task_id)],
            ignore_result=True,
            # one more try: the connection may be an old one that the broker closed meanwhile
            retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0},
        )

    def answering(self, timeout_s: float = 2.0, *, at_most: int | None = None) -> list[str]:
        """Return the names of the workers that answer a ping; ``at_most`` ends the waiting with so many answers."""
        replies = self._celery.control.ping(timeout=timeout_s, limit=at_most) or []
        return sorted(name for reply in replies for name in reply)

    def check(self) -> None:
        """Connect to the broker.

        Raises:
            Exception: Whatever the broker's library raises if it does not answer.
        """
        with self._celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=0, timeout=_PATIENCE_S)
