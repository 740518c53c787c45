"""The doorbell: posts a task's id to whichever broker, by name, without importing the worker's code."""

from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit
from uuid import UUID

from celery import Celery
from kombu.exceptions import OperationalError

from app.domain.ports import DEFAULT_QUEUE

JOB = "volcal.run_task"
HELP_JOB = "volcal.help_task"
_FOLDER = "filesystem"
_SENTINEL = "sentinel"
_REDIS = {"redis", "rediss", _SENTINEL}
_AMQP = {"amqp", "amqps", "pyamqp"}
_DRAIN_S = 0.4
_PATIENCE_S = 2.0  # a client waits for the answer to its request while the bell is rung
_SILENCE_S = 30.0  # a worker whose broker is silent for longer than that looks for it anew


def broker_settings(broker_url: str, *, patience_s: float | None = None, visibility_s: float = 0.0) -> dict[str, Any]:
    """Return Celery's settings for a broker.

    Args:
        broker_url: ``filesystem:///folder``, or any URL that Celery knows. Redis behind Sentinels is
            ``sentinel://:password@one:26379;sentinel://two:26379/0?master=NAME``, and ``&sentinel_password=…`` if the
            Sentinels themselves ask for one.
        patience_s: Give up on a broker that does not answer for so long, seconds; None waits for it, as a worker does.
        visibility_s: Seconds after which Redis delivers an unacknowledged message again.

    Raises:
        ValueError: If a URL of Sentinels does not name the master.
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
        silence_s = _SILENCE_S if patience_s is None else patience_s
        options |= {
            "socket_keepalive": True,
            "health_check_interval": int(_SILENCE_S),
            "socket_connect_timeout": min(silence_s, 10.0),
            "socket_timeout": silence_s,  # an idle worker asks each second, so this is not about idleness
        }
        if visibility_s:
            options["visibility_timeout"] = visibility_s
    if scheme == _SENTINEL:
        broker_url, more = _sentinels(broker_url, _PATIENCE_S if patience_s is None else patience_s)
        options |= more
    if scheme in _AMQP:
        options["confirm_publish"] = True
        if patience_s is not None:
            options |= {"read_timeout": patience_s, "write_timeout": patience_s}
    settings = {"broker_url": broker_url, "broker_transport_options": options}
    lively = {"broker_heartbeat": _SILENCE_S} if patience_s is None else {"broker_connection_timeout": patience_s}
    return settings | lively


def _sentinels(broker_url: str, patience_s: float) -> tuple[str, dict[str, Any]]:
    """Return a URL of Sentinels as Celery wants it, each with the Redis' password and number, and more options."""
    given, _, query = broker_url.partition("?")
    chosen = parse_qs(query)
    if "master" not in chosen:
        raise ValueError("a broker sentinel://… needs VOLCAL_BROKER_MASTER, the name of the master that they watch")
    urls = [urlsplit(each if "://" in each else f"{_SENTINEL}://{each}") for each in given.split(";")]
    login = next((url.netloc.rpartition("@")[0] for url in urls if "@" in url.netloc), "")
    database = next((url.path for url in urls if url.path.strip("/")), "/0")
    each_s = patience_s / len(urls)  # they are asked one after the other
    asking: dict[str, Any] = {"socket_timeout": each_s, "socket_connect_timeout": each_s, "retry": _no_retry()}
    if "sentinel_password" in chosen:
        asking["password"] = chosen["sentinel_password"][0]
    same = [SplitResult(_SENTINEL, f"{login}{'@' * bool(login)}{_host(url)}", database, "", "") for url in urls]
    options = {"master_name": chosen["master"][0], "sentinel_kwargs": asking}
    return ";".join(url.geturl() for url in same), options


def _no_retry() -> Any:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return Retry(NoBackoff(), 0)  # another Sentinel is asked instead, and all of them again later


def _host(url: SplitResult) -> str:
    return url.netloc.rpartition("@")[2]


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

    def submit(self, task_id: UUID, step: int = 0, queue: str = "") -> None:
        """Post the task's id and which step is due, and nothing else.

        Raises:
            OSError: If the broker cannot be reached in a few seconds (also kombu's ``OperationalError``).
        """
        self._post(JOB, [str(task_id), step], queue)

    def call_helpers(self, task_id: UUID, fence: int, count: int, queue: str = "") -> None:
        """Post so many jobs, each of which makes the worker that takes it help with a task.

        Raises:
            OSError: As ``submit``.
        """
        for _ in range(count):
            self._post(HELP_JOB, [str(task_id), fence], queue)

    def _post(self, job: str, arguments: list[Any], queue: str) -> None:
        try:
            self._celery.send_task(
                job,
                args=arguments,
                queue=queue or DEFAULT_QUEUE,
                ignore_result=True,
                # one more try: the connection may be an old one that the broker closed meanwhile
                retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0},
            )
        except OperationalError as error:
            raise OperationalError(_short(error)) from error

    def answering(self, timeout_s: float = 2.0, *, at_most: int | None = None) -> list[str]:
        """Return the names of the workers that answer a ping; ``at_most`` ends the waiting with so many answers."""
        replies = self._celery.control.ping(timeout=timeout_s, limit=at_most) or []
        return sorted(name for reply in replies for name in reply)

    def check(self) -> None:
        """Connect to the broker.

        Raises:
            Exception: Whatever the broker's library raises if it does not answer.
        """
        try:
            with self._celery.connection_for_write() as connection:
                connection.ensure_connection(max_retries=0, timeout=_PATIENCE_S)
        except OperationalError as error:
            raise OperationalError(_short(error)) from error


def _short(error: Exception) -> str:
    """Return what is wrong without the innards of the libraries, of which Sentinels' clients tell a page."""
    return str(error).partition(" : <")[0][:300]
