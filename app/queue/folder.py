"""A message broker that is a folder: the doorbell of the embedded mode, as a kombu transport.

Messages and bindings are files that appear and vanish by one rename or unlink, so no crash leaves half a message.
What is not a message is thrown away, and a folder that was deleted is made again: neither may stop a worker, since
whatever a message says, the database says better.
"""

import json
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from kombu.transport import virtual

log = logging.getLogger(__name__)

POLL_S = 0.2
Binding = tuple[str, str, str]
"""Routing key, pattern, queue."""


class Channel(virtual.Channel):
    """Queues as folders of files below ``transport_options["folder"]``.

    ``messages/<queue>/<time>-<random>.json`` and ``bindings/<exchange>/<random>.json``, names percent-encoded.
    """

    supports_fanout = True

    @property
    def _folder(self) -> Path:
        return Path(self.connection.client.transport_options["folder"])

    def _queue(self, queue: str) -> Path:
        return self._folder / "messages" / _name(queue)

    def _bindings(self, exchange: str) -> Path:
        return self._folder / "bindings" / _name(exchange)

    def _new_queue(self, queue: str, **_kwargs: Any) -> None:
        self._queue(queue).mkdir(parents=True, exist_ok=True)

    def _has_queue(self, queue: str, **_kwargs: Any) -> bool:
        return self._queue(queue).is_dir()

    def _put(self, queue: str, message: dict[str, Any], **_kwargs: Any) -> None:
        _write(self._queue(queue) / f"{time.time_ns():020}-{uuid4().hex}.json", message)

    def _put_fanout(self, exchange: str, message: dict[str, Any], _routing_key: str, **_kwargs: Any) -> None:
        for _, _, queue in self.get_table(exchange):
            self._put(queue, message)

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:  # noqa: ARG002  (kombu's signature)
        try:
            names = _files(self._queue(queue))
        except FileNotFoundError:
            self._make_again(queue)
            raise Empty from None
        for name in names:
            path = self._queue(queue) / name
            try:
                data = path.read_bytes()
                path.unlink()  # whoever unlinks it has taken it
            except FileNotFoundError:
                continue
            if (message := _message(data)) is not None:
                return message
            log.warning("threw away a file that is no message: %s", path)
        raise Empty

    def _purge(self, queue: str) -> int:
        count = 0
        with suppress(FileNotFoundError):
            for name in _files(self._queue(queue)):
                with suppress(FileNotFoundError):
                    (self._queue(queue) / name).unlink()
                    count += 1
        return count

    def _size(self, queue: str) -> int:
        with suppress(FileNotFoundError):
            return len(_files(self._queue(queue)))
        return 0

    def _delete(self, queue: str, exchange: str, *meta: Any, **_kwargs: Any) -> None:
        self._binding(exchange, (*meta[:2], queue)).unlink(missing_ok=True)
        self._purge(queue)
        with suppress(OSError):
            self._queue(queue).rmdir()

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        binding = (routing_key or "", pattern or "", queue)
        _write(self._binding(exchange, binding), binding)

    def _binding(self, exchange: str, binding: tuple[Any, ...]) -> Path:
        routing_key, _, queue = binding
        return self._bindings(exchange) / f"{_name(queue)}={_name(routing_key or '')}.json"

    def get_table(self, exchange: str) -> list[Binding]:
        """Return the bindings of an exchange; what is no binding is left out."""
        table = []
        with suppress(FileNotFoundError):
            for name in _files(self._bindings(exchange)):
                with suppress(OSError, ValueError):
                    routing_key, pattern, queue = json.loads((self._bindings(exchange) / name).read_bytes())
                    table.append((str(routing_key), str(pattern), str(queue)))
        return table

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> list[str]:
        if not exchange:
            return [routing_key]
        kind: Any = self.typeof(exchange)  # type: ignore[no-untyped-call]
        found = kind.lookup(self.get_table(exchange), exchange, routing_key, default)
        if not found and exchange == routing_key:
            return [routing_key]  # the bindings were wiped: an exchange named like its queue says where to
        return list(found)

    def _make_again(self, queue: str) -> None:
        """Set up a queue that somebody deleted from under its consumer."""
        self._new_queue(queue)
        for binding in self.state.queue_bindings(queue):
            kind: Any = self.typeof(binding.exchange)  # type: ignore[no-untyped-call]
            meta = kind.prepare_bind(queue, binding.exchange, binding.routing_key, binding.arguments)
            self._queue_bind(binding.exchange, *meta)


class Transport(virtual.Transport):
    """Selected by ``broker_transport``; its options are ``folder`` and, for workers, ``drain_s``."""

    Channel = Channel
    implements = virtual.Transport.implements.extend(
        asynchronous=False, exchange_type=frozenset({"direct", "topic", "fanout"})
    )
    polling_interval = POLL_S
    driver_type = "folder"
    driver_name = "folder"

    def drain_events(self, connection: Any, timeout: float | None = None, **_kwargs: Any) -> None:
        """Wait for a message; a worker that is asked to stop notices only between two waits, so they are short."""
        client: Any = self.client
        longest: float | None = client.transport_options.get("drain_s")
        if longest is not None:
            timeout = longest if timeout is None else min(timeout, longest)
        super().drain_events(connection, timeout=timeout)  # type: ignore[no-untyped-call]

    def driver_version(self) -> str:
        """There is no driver."""
        return "1"


def _name(text: str) -> str:
    return quote(text, safe="@") or "%"


def _files(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".json"))  # noqa: PTH208  (names, oldest first)


def _write(path: Path, value: object) -> None:
    partial = path.with_name(f".{uuid4().hex}.part")
    data = json.dumps(value)
    for last in (False, True):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(data)
            partial.replace(path)
        except FileNotFoundError:  # the folder was deleted in between
            if last:
                raise
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        else:
            return


def _message(data: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(data)
        properties = message["properties"]
        whole = isinstance(message["body"], str) and isinstance(properties["delivery_info"], dict)
        return message if whole and isinstance(properties["delivery_tag"], str) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
