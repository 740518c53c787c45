"""The worker's composition root: Celery rings, ``worker.runner`` works."""

import logging
import mmap
import os
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any
from uuid import UUID

from celery import Celery, signals
from celery.exceptions import CPendingDeprecationWarning
from celery.utils.nodenames import default_nodename, host_format

from app.context import Context
from app.db.session import make_engine
from app.domain.ports import DEFAULT_QUEUE
from app.observe import tracing
from app.outbound import AllowList
from app.outbound.gate import open_gate
from app.queue.celery import HELP_JOB, JOB, broker_settings, common_settings
from app.settings import Settings
from app.wiring import broker_url, build_context, database_url, site_of
from pipeline import guard
from pipeline.registry import CATALOGUE
from worker import foreign, machine
from worker.runner import Surroundings, run_task
from worker.runs.scratch import sweep
from worker.runs.supervisor import Limits
from worker.signs import Signs
from worker.spread.helping import help_task

log = logging.getLogger(__name__)

_MARGIN_S = 3600.0  # after a run's own time cap: fetching, storing


class StopFlag:
    """One byte that the worker and its pool's processes share; a signal handler may set it, since it has no lock."""

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)

    def set(self) -> None:
        """Ask all to stop."""
        self._byte[0] = 1

    def is_set(self) -> bool:
        """Whether all were asked to stop."""
        return self._byte[0] == 1


def make_celery(settings: Settings, *, concurrency: int = 1, stop: StopFlag | None = None) -> Celery:
    """Return the Celery application with the jobs that run tasks and help with them, and those of other services.

    Args:
        settings: What the deployment chose.
        concurrency: Runs at a time, which share the machine.
        stop: Ends the runs under way once it is set.
    """
    stopping = stop or StopFlag()
    celery = Celery("volcal", set_as_current=False)
    longest = settings.run_timeout_s + _MARGIN_S
    celery.conf.update(common_settings() | broker_settings(broker_url(settings), visibility_s=longest))
    celery.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_concurrency=concurrency,
        worker_pool="prefork",
        worker_lost_wait=1.0,  # a killed pool process leaves no result: do not keep its place for long
        worker_proc_alive_timeout=60.0,  # a busy machine takes its time to fork
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the lease makes a second delivery harmless
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        worker_send_task_events=settings.task_events,
        task_send_sent_event=settings.task_events,
    )

    parts = _parts(settings, concurrency, stopping)

    @celery.task(name=JOB, ignore_result=True)
    def run_task_job(task_id: str, step: int = 0) -> None:
        if (asked := _asked(task_id, step)) is not None:
            context, here = parts()
            run_task(context, asked[0], here, asked[1])

    @celery.task(name=HELP_JOB, ignore_result=True)
    def help_task_job(task_id: str, fence: int) -> None:
        if (asked := _asked(task_id, fence)) is not None:
            help_task(parts()[0], *asked, parts()[1])

    foreign.register(celery, settings, stopping=stopping.is_set)
    return celery


def _parts(settings: Settings, concurrency: int, stopping: StopFlag) -> Callable[[], tuple[Context, Surroundings]]:
    """Return a function that puts the application together once, in the pool's process that needs it."""

    @cache
    def parts() -> tuple[Context, Surroundings]:  # connections do not survive a fork
        memory_mb = machine.memory_cap_mb(settings.run_memory_mb, runs=concurrency)
        limits = Limits(settings.run_timeout_s, memory_mb, machine.threads(runs=concurrency))
        scratch = scratch_of(settings)
        here = Surroundings(
            scratch,
            limits,
            settings.heartbeat_s,
            stopping.is_set,
            helpers=settings.helpers,
            site=site_of(settings, logins=True),
            gate=partial(open_gate, AllowList.of(settings.fetch_allow)),
        )
        return build_context(settings), here

    return parts


def _asked(task_id: str, number: int) -> tuple[UUID, int] | None:
    """Return what a job is about; None if it was not posted by us."""
    try:
        return UUID(task_id), int(number)
    except (ValueError, AttributeError, TypeError):
        log.warning("a job without a task: %r", task_id)
        return None


def work(settings: Settings, *, queues: str, concurrency: int, name: str = "volcal@%h") -> int:
    """Take jobs until asked to stop; runs under way are then ended and given back unharmed.

    Args:
        settings: What the deployment chose.
        queues: Names of the queues to listen to, with commas.
        concurrency: Runs at a time.
        name: Of this worker among others; ``%h`` is the host's.

    Returns:
        The exit status.
    """
    # What a later Celery may do with running tasks when the broker is lost is settled above.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    stop = StopFlag()
    celery = make_celery(settings, concurrency=concurrency, stop=stop)
    sweep(scratch_of(settings))
    main = os.getpid()

    def stopping(**_: Any) -> None:
        stop.set()

    def born(**_: Any) -> None:
        guard.follow(main, grace_s=0.0)

    signals.worker_shutting_down.connect(stopping, weak=False)

    def keep_our_logging(**_: Any) -> None:
        """Celery leaves logging alone if somebody listens to this."""

    signals.worker_process_init.connect(born, weak=False)
    signals.worker_process_shutdown.connect(lambda **_: tracing.stop(), weak=False)
    signals.setup_logging.connect(keep_our_logging, weak=False)
    arguments = ["--quiet", "worker", f"--hostname={name}", f"--queues={queues}", f"--loglevel={settings.log_level}"]
    arguments += ["--without-gossip", "--without-mingle", f"--concurrency={concurrency}"]
    arguments += ["--task-events"] if settings.task_events else ["--without-heartbeat"]
    called = host_format(default_nodename(name))
    with Signs(lambda: make_engine(database_url(settings)), called, concurrency=concurrency, queues=queues):
        status = celery.worker_main(arguments)
    return status if isinstance(status, int) else 0


def all_queues() -> tuple[str, ...]:
    """Return every queue that a step of a pipeline waits in."""
    return tuple(dict.fromkeys((DEFAULT_QUEUE, *(queue or DEFAULT_QUEUE for queue in CATALOGUE.queues))))


def scratch_of(settings: Settings) -> Path:
    """Return the folder of runs under way."""
    return settings.data_dir.resolve() / "scratch"
