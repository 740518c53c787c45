"""What one gateway tells its operators: whether it is ready, and its figures as Prometheus reads them."""

import logging
import shutil
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from importlib.metadata import version

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from app.context import Context
from app.observe import checks, figures, requests
from app.observe.checks import Health, Readiness
from app.observe.probe import Probe

log = logging.getLogger(__name__)

FIGURES_GOOD_FOR_S = 5.0


class Watch:
    """The gateway's readiness and figures, each asked at most once in a while.

    Args:
        context: The application's parts.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._readiness = Readiness(context)
        self._figures = Probe(partial(figures.page, context), good_for_s=FIGURES_GOOD_FOR_S)
        self._failing = False

    @property
    def pipelines(self) -> Iterable[str]:
        """What can be run."""
        return self._context.catalogue

    def health(self) -> Health:
        """Return what a look at every part found."""
        return self._readiness.look()

    def metrics(self) -> bytes:
        """Return every figure; without those of the database if that does not answer."""
        self._figures.begin()
        registry = CollectorRegistry()
        registry.register(_Parts(self._context, self.health()))
        told = generate_latest(registry) + requests.page()
        try:
            told += self._figures.answer()
            self._failing = False
        except Exception as error:  # noqa: BLE001  (most likely the database, of which volcal_up tells)
            if not self._failing:
                log.warning("the figures of the database cannot be told: %s", checks.told(error))
            self._failing = True
        return told


class _Parts(Collector):
    def __init__(self, context: Context, health: Health) -> None:
        self._context = context
        self._health = health

    def collect(self) -> list[Metric]:
        """Return the figures of this process' look around."""
        up = GaugeMetricFamily("volcal_up", "Whether a part of the service answers this gateway", labels=["part"])
        for name, answers in self._health.parts.items():
            up.add_metric([name], float(answers))
        build = InfoMetricFamily("volcal_build", "What runs", value={"version": version("volcal-server")})
        ready = GaugeMetricFamily("volcal_ready", "Whether /readyz says so", float(not self._health.problems))
        found: list[Metric] = [up, build, ready]
        if self._context.data_dir is not None:
            with suppress(OSError):
                free = shutil.disk_usage(self._context.data_dir).free
                found.append(GaugeMetricFamily("volcal_disk_free_bytes", "Free disk of the data folder", free))
            wanted = self._context.policy.min_free_bytes
            found.append(GaugeMetricFamily("volcal_disk_wanted_bytes", "Free disk below which it is not ready", wanted))
        return found
