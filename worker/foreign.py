"""Jobs that other services post by name, with nothing of ours but the broker: image pipelines through the queue.

They are no tasks: no database knows them. The result lies in the result backend, and goes to a receiver if the job
names one. A job counts as taken only when it is done: one whose worker is lost is done again, with the same result.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from celery.exceptions import Reject
from pydantic import ValidationError

from app.domain.callbacks import pause_s, signature
from app.domain.errors import UrlRefused, VolcalError
from app.domain.ports import WebClient
from app.services.images.parts import Images, Stopped
from app.services.images.process import process
from app.services.images.schemas import ProcessRequest
from app.settings import Settings
from app.wiring import build_images, build_web, callback_secret

log = logging.getLogger(__name__)

PROCESS = "api.tasks.process_pipeline"
HEALTH = "api.tasks.health_check"
SAVE = "api.tasks.save_results"
TELL = "volcal.tell_results"

SOFT_S, HARD_S = 25 * 60, 30 * 60
_MARGIN_S = 60.0  # in which a job that takes too long says so itself
_LONGEST_PAUSE_S = 15 * 60.0  # a pause is spent in the queue, in which a message must not wait for hours
_GONE = 410


@dataclass(frozen=True, slots=True)
class _Parts:
    images: Images
    web: WebClient
    secret: str | None


def register(celery: Celery, settings: Settings, *, stopping: Callable[[], bool] = lambda: False) -> None:
    """Teach a Celery application these jobs.

    Args:
        celery: The worker's.
        settings: What the deployment chose.
        stopping: Whether the worker was asked to stop; a job under way is then given back.
    """
    celery.conf.update(result_backend=_backend(settings.result_backend), result_expires=settings.result_ttl_s)

    @cache
    def parts() -> _Parts:
        return _Parts(build_images(settings), build_web(settings), callback_secret(settings))

    @celery.task(
        name=PROCESS,
        bind=True,
        ignore_result=False,
        track_started=True,
        throws=(ValueError,),
        soft_time_limit=SOFT_S,
        time_limit=HARD_S,
    )
    def process_pipeline(self: Any, request_data: Any, callback_url: str | None = None) -> dict[str, Any]:
        here = parts()
        try:
            result = _look(here, request_data, callback_url, stopping)
        except Stopped:
            raise Reject("the worker stops", requeue=True) from None
        if not callback_url and not settings.result_backend:
            log.warning("a result goes nowhere: no callback, no CELERY_RESULT_BACKEND", extra={"job": self.request.id})
        if callback_url:
            queue = (self.request.delivery_info or {}).get("routing_key")
            tell_results.apply_async((callback_url, result), queue=queue, ignore_result=True)
        return result

    @celery.task(name=TELL, bind=True, ignore_result=True, max_retries=settings.callback_attempts - 1)
    def tell_results(self: Any, url: str, result: dict[str, Any]) -> None:
        tried: int = self.request.retries
        about = {"delivery": self.request.id, "attempt": tried + 1}
        again, said = _tell(parts(), url, result, str(self.request.id))
        if said is None:
            log.info("results told", extra=about)
        elif again and tried < self.max_retries:
            log.info("results not told yet: %s", said, extra=about)
            pause = min(_LONGEST_PAUSE_S, pause_s(tried + 1, settings.callback_retry_s))
            raise self.retry(countdown=pause)
        else:
            log.warning("results not told: %s", said, extra=about)

    _register_small(celery)


def _register_small(celery: Celery) -> None:
    @celery.task(name=HEALTH, ignore_result=False)
    def health_check() -> dict[str, str]:
        return {"status": "healthy", "message": "Celery worker is running"}

    @celery.task(name=SAVE, ignore_result=False)
    def save_results(_request_data: Any = None) -> dict[str, Any]:
        return {}  # a name that the other side has a use for, and this one has not


def _backend(url: str | None) -> str | None:
    """Return a result backend's URL; a folder is made if it is not there."""
    if url and url.startswith("file://"):
        Path(urlsplit(url).path).mkdir(parents=True, exist_ok=True)
    return url


def _look(here: _Parts, request_data: Any, callback_url: str | None, stopping: Callable[[], bool]) -> dict[str, Any]:
    """Return the answer as JSON has it.

    Raises:
        ValueError: If there is none; a class that whoever posted the job knows, too. The message begins with a code.
    """
    try:
        if callback_url:
            here.web.check(callback_url)
        request = ProcessRequest.model_validate(request_data)
        response = process(here.images, request, seconds=SOFT_S - _MARGIN_S, stopping=stopping)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "request"
        raise ValueError(f"REQUEST_INVALID: {where}: {first['msg']}") from None
    except VolcalError as error:
        raise ValueError(f"{error.code}: {error} {getattr(error, 'remedy', '')}".strip()) from None
    return response.model_dump(mode="json")


def _tell(here: _Parts, url: str, result: dict[str, Any], delivery: str) -> tuple[bool, str | None]:
    """Post a result to its receiver; return whether to try again, and why it was not heard (None if it was)."""
    body = json.dumps(result, separators=(",", ":"), allow_nan=False).encode("ascii")
    headers = {"Content-Type": "application/json", "X-Volcal-Event": "images.processed", "X-Volcal-Delivery": delivery}
    if here.secret is not None:
        now = int(time.time())
        headers |= {"X-Volcal-Timestamp": str(now), "X-Volcal-Signature": signature(here.secret, now, body)}
    try:
        status = here.web.post(url, body, headers=headers)
    except UrlRefused as error:
        return False, str(error)
    except OSError as error:
        return True, str(error)
    return status != _GONE, None if 200 <= status < 300 else f"the receiver answered {status}"
