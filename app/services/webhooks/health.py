"""Whether a webhook is still heard, and what becomes of one that is not."""

import logging
from datetime import datetime, timedelta

from sqlalchemy import delete, update

from app.db.models import Delivery, Webhook
from app.db.session import UnitOfWork
from app.domain.callbacks import DeliveryState
from app.domain.callbacks.webhooks import KEPT_S, Disabled, Event

log = logging.getLogger(__name__)


def note(
    work: UnitOfWork, webhook: Webhook, delivery: Delivery, *, gone: bool, now: datetime, patience_s: float
) -> None:
    """Take to heart what became of an attempt; switch off what has failed for long, or is gone.

    Args:
        work: The transaction, which holds the webhook's row.
        webhook: The subscription.
        delivery: As it stands after the attempt.
        gone: Whether the receiver said that it is no more.
        now: The present, UTC.
        patience_s: How long failures may last, seconds.
    """
    _forget(work, webhook, delivery, now)
    if delivery.state == DeliveryState.DELIVERED:
        webhook.failing_since = None
    elif delivery.event != Event.PING:
        webhook.failing_since = since = webhook.failing_since or now
        if gone:
            switch_off(work, webhook, Disabled.GONE, now)
        elif delivery.state == DeliveryState.FAILED and now - since >= timedelta(seconds=patience_s):
            switch_off(work, webhook, Disabled.FAILING, now)


def switch_off(work: UnitOfWork, webhook: Webhook, why: Disabled, now: datetime) -> None:
    """Tell a receiver nothing more; what it was still to be told has failed, and can be sent again later."""
    webhook.disabled_at, webhook.disabled_why = now, why
    work.session.flush()
    work.session.execute(
        update(Delivery)
        .where(Delivery.webhook_id == webhook.id, Delivery.state == DeliveryState.PENDING, Delivery.event != Event.PING)
        .values(state=DeliveryState.FAILED, settled_at=now)
        .execution_options(synchronize_session="fetch")
    )
    if why is not Disabled.OWNER:
        log.warning("a webhook was switched off", extra={"webhook": str(webhook.id), "reason": str(why)})


def switch_on(webhook: Webhook) -> None:
    """Tell a receiver again, from now on."""
    webhook.disabled_at, webhook.disabled_why, webhook.failing_since = None, "", None


def _forget(work: UnitOfWork, webhook: Webhook, but_not: Delivery, now: datetime) -> None:
    """Delete what is too old to be asked for; here, so that a log that grows is one that is cut."""
    work.session.execute(
        delete(Delivery)
        .where(Delivery.webhook_id == webhook.id, Delivery.created_at < now - timedelta(seconds=KEPT_S))
        .where(Delivery.state != DeliveryState.PENDING, Delivery.id != but_not.id)
        .execution_options(synchronize_session=False)
    )
