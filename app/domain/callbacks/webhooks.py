"""Standing subscriptions to tasks: what they hear of, how their secrets come about, what can go wrong with them."""

import base64
import hashlib
import hmac
import secrets
from enum import StrEnum
from typing import Any

from app.domain.errors import Conflict, NotFound, TooMany

KEPT_S = 30 * 86_400
"""How long deliveries of a webhook are remembered."""
LONGEST_GRACE_S = 30 * 86_400
_PREFIX = "whsec_"


class Event(StrEnum):
    """What a receiver may be told of."""

    STARTED = "task.started"  # a worker has taken it, perhaps not for the first time
    DONE = "task.done"
    ERROR = "task.error"
    KILLED = "task.killed"
    PING = "webhook.ping"  # nothing has happened: the owner tries the receiver


TASK_EVENTS = (Event.STARTED, Event.DONE, Event.ERROR, Event.KILLED)
ENDS = (Event.DONE, Event.ERROR, Event.KILLED)


class Disabled(StrEnum):
    """Why a webhook is switched off."""

    OWNER = "owner"  # its owner did it
    FAILING = "failing"  # it has not been heard for long
    GONE = "gone"  # the receiver answered 410


def new_salt() -> str:
    """Return what a fresh secret is made from: 256 random bits."""
    return secrets.token_hex(32)


def secret_of(master: str, salt: str) -> str:
    """Return a webhook's secret, which is kept nowhere: it takes the deployment's secret *and* the database to make it.

    >>> secret_of("master", "salt")
    'whsec_GWKht9LNuoPx3nTeHAIxfitEIKryxWjN1E6FZ45zcgw='
    """
    made = hmac.new(master.encode(), b"volcal webhook v1\0" + salt.encode(), hashlib.sha256).digest()
    return _PREFIX + base64.b64encode(made).decode()


def mark_of(secret: str) -> str:
    """Return by what to see whether a secret is still the one that was shown; nothing follows from it."""
    return hashlib.sha256(secret.encode()).hexdigest()[:16]


def standard_key(secret: str) -> bytes:
    """Return the bytes that a secret stands for in the scheme of Standard Webhooks."""
    return base64.b64decode(secret.removeprefix(_PREFIX)) if secret.startswith(_PREFIX) else secret.encode()


def standard_signature(key: bytes, delivery: str, timestamp: int, body: bytes) -> str:
    """Return what ``webhook-signature`` says, by the specification of Standard Webhooks.

    Its own example:

    >>> key = standard_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    >>> standard_signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    message = f"{delivery}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()


class WebhookNotFound(NotFound):
    """There is no such webhook."""

    code = "WEBHOOK_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("There is no such webhook, or it was deleted.")


class DeliveryNotFound(NotFound):
    """The webhook has no such delivery."""

    code = "DELIVERY_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__(f"There is no such delivery; they are kept for {KEPT_S // 86_400} days.")


class WebhookDisabled(Conflict):
    """The webhook is switched off."""

    code = "WEBHOOK_DISABLED"

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__('The webhook is switched off; switch it on by PATCH {"enabled": true} first.')

    def extensions(self) -> dict[str, Any]:
        """Say why it is, for programs."""
        return {"reason": self.why}


class DeliveryNotFailed(Conflict):
    """Only a delivery that has failed can be sent again."""

    code = "DELIVERY_NOT_FAILED"

    def __init__(self, state: str) -> None:
        self.state = state
        super().__init__(f"The delivery is {state}; what has failed can be sent again.")

    def extensions(self) -> dict[str, Any]:
        """Say how it stands."""
        return {"state": self.state}


class WebhookQuotaReached(TooMany):
    """The owner has as many webhooks as are allowed."""

    code = "QUOTA_WEBHOOKS"

    def __init__(self, limit: int, used: int) -> None:
        super().__init__(
            f"There are {used} webhooks; {limit} are allowed.",
            "Delete one that is no longer needed (DELETE /api/v1/webhooks/{id}), or change it (PATCH).",
            limit=limit,
            used=used,
        )
