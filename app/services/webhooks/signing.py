"""How a receiver knows that a delivery is ours: its secrets, and the headers that are made with them."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from app.db.models import Webhook
from app.domain.callbacks import signature
from app.domain.callbacks.webhooks import mark_of, secret_of, standard_key, standard_signature

if TYPE_CHECKING:
    from app.context import Policy

UNSIGNED = "This server has no secret to sign with (VOLCAL_WEBHOOK_SECRET)."
CHANGED = "The server's own secret has changed since this webhook's was shown; rotate it to get a new one."


def secrets_of(policy: "Policy", webhook: Webhook | None, now: datetime) -> tuple[tuple[str, ...], str]:
    """Return what to sign with, newest first, or why there is nothing.

    Args:
        policy: What the deployment chose.
        webhook: The subscription; None is a task's ``callback_url``, which has the deployment's secret.
        now: The present, UTC.
    """
    master = policy.callback_secret
    if master is None:
        return (), UNSIGNED
    if webhook is None:
        return (master,), ""
    newest = secret_of(master, webhook.salt)
    if mark_of(newest) != webhook.mark:  # a signature that nobody can check would look like a forgery
        return (), CHANGED
    both_good = webhook.old_salt is not None and webhook.old_until is not None and now < webhook.old_until
    return (newest, *([secret_of(master, webhook.old_salt)] if both_good and webhook.old_salt else [])), ""


def headers(secrets: Sequence[str], *, event: str, delivery: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a delivery: our own, and those of Standard Webhooks, which libraries know.

    Several signatures, as while a secret is exchanged, have a space between them.
    """
    ours = [signature(secret, timestamp, body) for secret in secrets]
    standard = [standard_signature(standard_key(secret), delivery, timestamp, body) for secret in secrets]
    return {
        "Content-Type": "application/json",
        "X-Volcal-Event": event,
        "X-Volcal-Delivery": delivery,
        "X-Volcal-Timestamp": str(timestamp),
        "X-Volcal-Signature": " ".join(ours),
        "webhook-id": delivery,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(standard),
    }
