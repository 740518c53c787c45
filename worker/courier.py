"""Sends what receivers are to be told, so that a slow one holds up nothing but itself."""

import logging
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

from app.context import Context
from app.services import callbacks
from worker.errands import keep_at, last_words

log = logging.getLogger(__name__)

_HANDS = 16  # deliveries at a time
_PER_HOST = 2


class Courier:
    """Looks for deliveries that are due, and makes each in a thread of its own.

    Several may run at once, in any process: each delivery is claimed before it is sent.

    Args:
        context: The application's parts.
        every_s: Seconds between looks.
    """

    def __init__(self, context: Context, *, every_s: float = 1.0) -> None:
        self._context = context
        self._every_s = every_s
        self._lock = threading.Lock()
        self._under_way: dict[UUID, tuple[str, threading.Thread]] = {}

    def run(self, stop: threading.Event) -> None:
        """Work until asked to stop; what is under way then has some seconds to end, and is sent again otherwise."""

        def look() -> None:
            while not stop.is_set() and self._send_out():
                pass

        keep_at(look, every_s=self._every_s, stop=stop, log=log, failed="no callbacks now")
        last_words([thread for _, thread in list(self._under_way.values())])

    def _send_out(self) -> bool:
        """Start what is due and has a free hand; return whether anything was."""
        with self._lock:
            under_way = set(self._under_way)
            load = Counter(host for host, _ in self._under_way.values())
        if len(under_way) >= _HANDS:
            return False
        busy = [host for host, count in load.items() if count >= _PER_HOST]
        found = callbacks.due(
            self._context, datetime.now(UTC), limit=_HANDS - len(under_way), but_not=busy, under_way=under_way
        )
        started = 0
        for delivery_id, host in found:
            if load[host] < _PER_HOST:
                load[host] += 1
                started += 1
                self._start(delivery_id, host)
        return started > 0

    def _start(self, delivery_id: UUID, host: str) -> None:
        thread = threading.Thread(target=self._deliver, args=(delivery_id,), name="callback", daemon=True)
        with self._lock:
            thread.start()
            self._under_way[delivery_id] = (host, thread)

    def _deliver(self, delivery_id: UUID) -> None:
        try:
            callbacks.deliver(self._context, delivery_id, datetime.now(UTC))
        except Exception:
            log.exception("a callback was not sent", extra={"delivery": str(delivery_id)})
            time.sleep(self._every_s)  # the database may be away: not at once again
        finally:
            with self._lock:
                del self._under_way[delivery_id]
