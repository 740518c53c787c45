"""How a long request body gets from its socket to whoever wants it: uvicorn's protocol, without its small pieces.

uvicorn gives a body to the application in pieces of 64 KiB and more, each through a buffer, a copy, a message and
two changes of its reading. For small requests that is right, and they stay as they are. An application that finds
``scope["extensions"]["volcal.body"]`` may iterate over it instead of calling ``receive``, and gets all that came
since it asked last:

* with a Content-Length, which says where the body ends, the socket is read straight into large buffers, past the
  HTTP parser;
* chunked, the parser's pieces are handed on as they are, not joined.

Reading goes on while the application works on a piece, and pauses when 1 MiB waits.
"""

import asyncio
import logging
import socket
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

log = logging.getLogger(__name__)

EXTENSION = "volcal.body"
_BUFFER = 1 << 20  # at most two a request: one is read into while the other is written
_KEPT = 8
_WITH_BODY = {"PATCH", "POST"}

_spare: list[bytearray] = []  # buffers between two uses: fresh memory costs as much as filling it


class Body:
    """The body of one request: an iterator over lists of buffers, each valid until the next list is asked for.

    It ends with the body, or earlier if the client goes away: what came before is still handed out.
    """

    def __init__(self, protocol: "StreamingProtocol", cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._is_taken = False
        self._parts: list[bytes | memoryview] = []
        self._held = 0
        self._filling: bytearray | None = None
        self._filled = 0
        self._full: list[bytearray] = []  # what lies in the parts
        self._lent: list[bytearray] = []  # what the last list showed

    def __aiter__(self) -> "Body":
        """Return itself."""
        return self

    async def __anext__(self) -> list[bytes | memoryview]:
        """Return what has come; waits for the first byte of it."""
        if not self._is_taken:
            first = await self._first()
            self._is_taken = True
            self._protocol.hand_over(self, self._cycle)  # nothing came since: there was no await in between
            if first:
                return [first]
        _spare.extend(self._lent[: max(0, _KEPT - len(_spare))])
        self._lent = []
        while not (parts := self._collect()):
            if self._cycle.disconnected or self._cycle.response_complete or not self._cycle.more_body:
                if self._cycle.disconnected:
                    log.info("a client went away while it was sending")
                raise StopAsyncIteration
            await self._cycle.message_event.wait()
            self._cycle.message_event.clear()
        return parts

    async def _first(self) -> bytes:
        message = await self._cycle.receive()  # which tells a client that waits for it to continue
        if message["type"] == "http.request":
            return message["body"]
        left, self._cycle.body = bytes(self._cycle.body), bytearray()
        return left

    def add(self, part: bytes) -> None:
        """Take a piece that the parser found."""
        self._parts.append(part)
        self._count(len(part))

    def room(self, most: int) -> memoryview:
        """Return where the next bytes of the body go, at most ``most``; never empty."""
        if self._filling is None:
            self._filling, self._filled = _spare.pop() if _spare else bytearray(_BUFFER), 0
        return memoryview(self._filling)[self._filled : self._filled + most]

    def fill(self, size: int) -> None:
        """Note that bytes came into the room."""
        if self._cycle.response_complete:
            return  # nobody wants them any more
        self._filled += size
        self._count(size)
        if self._filled == _BUFFER:
            self._close_buffer()

    def _count(self, size: int) -> None:
        self._held += size
        if self._held >= _BUFFER:
            self._cycle.flow.pause_reading()
        self._cycle.message_event.set()

    def _close_buffer(self) -> None:
        if self._filling is not None and self._filled:
            self._parts.append(memoryview(self._filling)[: self._filled])
            self._full.append(self._filling)
            self._filling = None

    def _collect(self) -> list[bytes | memoryview]:
        self._close_buffer()
        parts, self._parts, self._held = self._parts, [], 0
        self._lent, self._full = self._full, []
        if self._cycle.more_body:
            self._cycle.flow.resume_reading()
        return parts


class StreamingProtocol(HttpToolsProtocol):
    """uvicorn's protocol, whose requests offer their body by ``scope["extensions"]["volcal.body"]``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._taker: Body | None = None
        self._parsed = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; nothing that is sent waits for more of it."""
        super().connection_made(transport)
        line = transport.get_extra_info("socket")
        if line is not None and line.family in {socket.AF_INET, socket.AF_INET6}:
            # An answer's body would wait 40 ms for the client to acknowledge the head. asyncio sees to that only for
            # sockets that were made with the protocol's number.
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def on_headers_complete(self) -> None:
        """Offer the body to the application."""
        super().on_headers_complete()
        self._taker, self._parsed = None, 0
        if self.scope["method"] in _WITH_BODY:
            self.scope["extensions"] = {EXTENSION: Body(self, self.cycle)}  # type: ignore[dict-item]

    def on_body(self, body: bytes) -> None:
        """Pass on what the parser found."""
        self._parsed += len(body)
        if self._taker is None or self.cycle.response_complete:
            super().on_body(body)
        else:
            self._taker.add(body)

    def hand_over(self, taker: Body, cycle: RequestResponseCycle) -> None:
        """Let all that still comes of a request's body go to ``taker``."""
        if not cycle.more_body or cycle.disconnected:
            return
        self._taker = taker
        headers = dict(cycle.scope["headers"])
        if b"content-length" in headers and b"transfer-encoding" not in headers:
            left = int(headers[b"content-length"]) - self._parsed
            self.transport.set_protocol(_Funnel(self, taker, left))

    def body_ended(self) -> None:
        """Go on with what follows a body that the parser has not seen, as if it had."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.on_message_complete()
        self.transport.set_protocol(self)


class _Funnel(asyncio.BufferedProtocol):
    """Stands in for a connection's protocol while the rest of a body comes; the rest of it is passed on."""

    def __init__(self, protocol: StreamingProtocol, taker: Body, left: int) -> None:
        self._protocol = protocol
        self._taker = taker
        self._left = left
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Say where the next bytes go: never more than the body has left."""
        return self._taker.room(self._left)

    def buffer_updated(self, nbytes: int) -> None:
        """Note that bytes came."""
        self._protocol._unset_keepalive_if_required()  # noqa: SLF001
        self._left -= nbytes
        self._taker.fill(nbytes)
        if self._left == 0:
            self._protocol.body_ended()
