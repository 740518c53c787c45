"""A receiver of Volcal's callbacks and webhooks: Python's standard library, nothing else.

    VOLCAL_SECRET=whsec_… python receiver.py [port]

It checks the signature and the time before it looks at anything else, remembers what it has seen, answers at once, and
does the work afterwards, in a thread of its own.
"""

import hashlib
import hmac
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOLERANCE_S = 300
LONGEST = 1 << 20  # bytes of a body; Volcal's are far smaller
MANY = 100_000  # deliveries to remember


def is_genuine(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Return whether a body was sent by who knows the secret, and just now.

    While a secret is exchanged there are several signatures, with a space between them; one that fits is enough.
    """
    timestamp = headers.get("X-Volcal-Timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit() and abs(now - int(timestamp)) <= TOLERANCE_S):
        return False
    made = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    expected = f"v1={made}".encode()
    given = headers.get("X-Volcal-Signature", "").split()
    # compare_digest takes the same time wherever the two differ, so that nobody can guess digit by digit
    return any(hmac.compare_digest(expected, each.encode()) for each in given)


class Receiver(BaseHTTPRequestHandler):
    """Answers one request."""

    secret = ""
    todo: "queue.Queue[dict[str, Any]]" = queue.Queue()
    _seen: dict[str, None] = {}  # noqa: RUF012  (one for all requests, on purpose)
    _lock = threading.Lock()

    def do_POST(self) -> None:
        """Take a delivery in."""
        length = self.headers.get("Content-Length", "")
        if not (length.isdigit() and int(length) <= LONGEST):
            return self._answer(413)
        body = self.rfile.read(int(length))
        if not is_genuine(self.secret, self.headers, body, time.time()):
            return self._answer(401)
        told = json.loads(body)
        if self._is_new(told["delivery"]):  # of the body: the signature covers it
            self.todo.put(told)
        return self._answer(204)

    def _is_new(self, delivery: str) -> bool:
        """Return whether this is the first time; a delivery may come again, if our answer was lost."""
        with self._lock:
            if delivery in self._seen:
                return False
            self._seen[delivery] = None
            if len(self._seen) > MANY:
                del self._seen[next(iter(self._seen))]
            return True

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def work(told: dict[str, Any]) -> None:
    """Do something with what was told; put your own work here."""
    print(told["event"], told.get("id", ""), told["links"].get("results", ""), flush=True)  # noqa: T201


def main() -> None:
    """Listen until Ctrl-C."""
    Receiver.secret = os.environ["VOLCAL_SECRET"]
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 9000), Receiver)
    print(f"listening on {server.server_address[1]}", flush=True)  # noqa: T201
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        while True:
            work(Receiver.todo.get())
    except KeyboardInterrupt:
        server.shutdown()


if __name__ == "__main__":
    main()
