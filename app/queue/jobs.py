"""Posts jobs by name, as other services do: whoever takes them needs to know the name and nothing else of us."""

from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from app.queue.celery import broker_settings, common_settings

PATIENCE_S = 5.0


def post(broker_url: str, name: str, args: list[Any]) -> str:
    """Post a job to the default queue of a broker; return its id.

    Args:
        broker_url: As for ``broker_settings``.
        name: Of the job.
        args: Its arguments, as JSON has them.

    Raises:
        OSError: If the broker cannot be reached in a few seconds (kombu's ``OperationalError``).
    """
    celery = Celery("volcal", set_as_current=False)
    celery.conf.update(common_settings() | broker_settings(broker_url, patience_s=PATIENCE_S))
    once = {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0}
    try:
        # Whoever takes it keeps the result: that it is not ignored is said here.
        posted = celery.send_task(name, args=args, ignore_result=False, retry_policy=once)
    except OperationalError as error:
        raise OSError(str(error).partition(" : <")[0][:300]) from error
    finally:
        celery.close()
    return str(posted.id)
