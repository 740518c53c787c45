"""Traces, if somebody wants them: a task is one trace, from the request that created it to the last stage of its run.

The trace's id is the task's own, 128 bits of chance, and the span of the request that created it has the id's second
half. So the worker knows both without being told, and nothing needs to be stored or passed through a queue.

Without ``OTEL_EXPORTER_OTLP_ENDPOINT`` or without the packages of the extra ``otel`` nothing is imported or done.
"""

import atexit
import logging
import os
import re
import threading
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

log = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_FLUSH_S = 2.0
_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")

_tracing: "Tracing | None" = None


def start(service: str) -> None:
    """Begin to trace, if a collector is configured.

    Args:
        service: What this process is, such as ``volcal-gateway``; ``OTEL_SERVICE_NAME`` wins.
    """
    global _tracing
    if not any(os.environ.get(name) for name in ENDPOINTS) or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        _tracing = Tracing(service)
    except ImportError as error:
        log.warning("a collector of traces is named, but 'volcal-server[otel]' is not installed (%s)", error)
        return
    atexit.register(stop)


def stop() -> None:
    """Send what is not sent yet, for no longer than a moment."""
    global _tracing
    found, _tracing = _tracing, None
    if found is not None:
        found.flush()


def active() -> "Tracing | None":
    """Return what takes spans; None if nobody wants them."""
    return _tracing


class Tracing:
    """Takes spans that are over, and sends them from a thread of its own.

    Args:
        service: What this process is.
    """

    def __init__(self, service: str) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._api = trace
        self._ids = _make_ids()
        name = os.environ.get("OTEL_SERVICE_NAME") or service
        resource = Resource.create({"service.name": name})
        self._provider = TracerProvider(id_generator=self._ids, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("volcal")

    def flush(self) -> None:
        """Send what is not sent yet, for no longer than a moment: a collector may be away."""
        sending = threading.Thread(target=self._provider.force_flush, name="flush", daemon=True)
        sending.start()
        sending.join(_FLUSH_S)

    def request(
        self,
        name: str,
        times: tuple[float, float],
        about: Mapping[str, Any],
        *,
        task: str = "",
        created: bool = False,
        caller: str = "",
        failed: bool = False,
    ) -> None:
        """Add the span of a request.

        Args:
            name: Method and route.
            times: When it began and ended, seconds since the epoch.
            about: Attributes.
            task: Id of the task that it was about, if any.
            created: Whether it created the task, which makes it the root of the task's trace.
            caller: The request's header ``traceparent``.
            failed: Whether it failed by a fault of ours.
        """
        root, theirs = self._root(task), self._caller(caller)
        kind = self._api.SpanKind.SERVER
        if root is not None and created:
            self._ids.next_are(root.trace_id, root.span_id)
            self._add(name, times, about, parent=None, links=[theirs], kind=kind, failed=failed)
        elif theirs is not None:
            self._add(name, times, about, parent=theirs, links=[root], kind=kind, failed=failed)
        else:
            self._add(name, times, about, parent=root, links=[], kind=kind, failed=failed)

    def run(
        self,
        name: str,
        times: tuple[float, float],
        about: Mapping[str, Any],
        *,
        task: str,
        stages: Iterable[tuple[str, float, float]],
        failed: bool,
    ) -> None:
        """Add the span of a run, and one for each of its stages.

        Args:
            name: Of the span.
            times: When it began and ended, seconds since the epoch.
            about: Attributes.
            task: Id of the task.
            stages: Name, begin and end of each stage.
            failed: Whether it failed.
        """
        kind = self._api.SpanKind.CONSUMER
        own = self._add(name, times, about, parent=self._root(task), links=[], kind=kind, failed=failed)
        for stage, began, ended in stages:
            inner = self._api.SpanKind.INTERNAL
            self._add(stage, (began, ended), {}, parent=own, links=[], kind=inner, failed=False)

    def _add(
        self,
        name: str,
        times: tuple[float, float],
        about: Mapping[str, Any],
        *,
        parent: Any,
        links: list[Any],
        kind: Any,
        failed: bool,
    ) -> Any:
        api = self._api
        context = api.set_span_in_context(api.NonRecordingSpan(parent)) if parent is not None else api.Context()
        span = self._tracer.start_span(
            name,
            context=context,
            kind=kind,
            attributes=dict(about),
            links=[api.Link(link) for link in links if link is not None],
            start_time=int(times[0] * 1e9),
        )
        if failed:
            span.set_status(api.StatusCode.ERROR)
        span.end(end_time=int(times[1] * 1e9))
        return span.get_span_context()

    def _root(self, task: str) -> Any:
        """Return where the trace of a task begins; None if that is no task's id."""
        try:
            number = UUID(task).int
        except ValueError:
            return None
        return self._context(number, number & ((1 << 64) - 1))

    def _caller(self, header: str) -> Any:
        found = _PARENT.fullmatch(header.strip().lower())
        if found is None or not int(found[1], 16) or not int(found[2], 16) or not int(found[3], 16) & 1:
            return None
        return self._context(int(found[1], 16), int(found[2], 16))

    def _context(self, trace_id: int, span_id: int) -> Any:
        flags = self._api.TraceFlags(self._api.TraceFlags.SAMPLED)
        return self._api.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)


def _make_ids() -> Any:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """Random ids, but for the span that is to be the root of a task's trace."""

        def __init__(self) -> None:
            self._wanted = threading.local()

        def next_are(self, trace_id: int, span_id: int) -> None:
            self._wanted.trace, self._wanted.span = trace_id, span_id

        def generate_trace_id(self) -> int:
            return self._wanted.__dict__.pop("trace", None) or super().generate_trace_id()

        def generate_span_id(self) -> int:
            return self._wanted.__dict__.pop("span", None) or super().generate_span_id()

    return Ids()
