"""WebSockets before any route: the key that a browser offers as a protocol, and a refusal that it can read."""

import base64
import binascii

from starlette.types import Message, Receive, Scope, Send

PROTOCOL = "volcal.events"
"""What the server chooses of the protocols that a client offers; a browser wants one to be chosen."""

KEY_PROTOCOL = "volcal.key."
"""What the base64url form of a key follows in ``Sec-WebSocket-Protocol``: the one header that a page can fill in."""


def offered_key(scope: Scope) -> str | None:
    """Return the key that is offered as a protocol; None if there is none.

    >>> offered_key({"subprotocols": ["volcal.events", "volcal.key.aHVzaA"]})
    'hush'
    """
    for protocol in scope.get("subprotocols", ()):
        if protocol.startswith(KEY_PROTOCOL):
            text = protocol[len(KEY_PROTOCOL) :]
            try:
                return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
            except (ValueError, binascii.Error):
                return ""  # a key that is none
    return None


def chosen(scope: Scope) -> str | None:
    """Return which of the protocols that a client offers is spoken."""
    return PROTOCOL if PROTOCOL in scope.get("subprotocols", ()) else None


def acceptance(scope: Scope) -> Message:
    """Return the message that accepts a WebSocket."""
    return {"type": "websocket.accept", "subprotocol": chosen(scope)}


async def refuse(scope: Scope, receive: Receive, send: Send, status: int, code: str) -> None:
    """Close with 4000 and the HTTP status that would say the same.

    It is accepted first: of a refused handshake a browser tells its page nothing.
    """
    await receive()
    await send(acceptance(scope))
    await send({"type": "websocket.close", "code": 4000 + status, "reason": code})
