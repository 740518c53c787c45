"""What a webhook's receiver was told, and telling it again."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import select, tuple_

from app.db.models import Delivery, Webhook
from app.db.session import UnitOfWork
from app.domain.callbacks import DeliveryState
from app.domain.callbacks.webhooks import DeliveryNotFailed, DeliveryNotFound, Event, WebhookDisabled
from app.services.webhooks.subscriptions import get


def deliveries(
    work: UnitOfWork,
    webhook_id: UUID,
    *,
    state: DeliveryState | None = None,
    before: tuple[datetime, UUID] | None = None,
    limit: int = 50,
) -> list[Delivery]:
    """Return up to ``limit`` deliveries of a webhook, newest first.

    Args:
        work: The transaction.
        webhook_id: Whose.
        state: Only those that stand so.
        before: Time of creation and id of the last one already seen.
        limit: How many at most.

    Raises:
        WebhookNotFound: If there is no such webhook, or it is another's.
    """
    get(work, webhook_id)
    query = select(Delivery).where(Delivery.webhook_id == webhook_id)
    if state is not None:
        query = query.where(Delivery.state == state)
    if before is not None:
        query = query.where(tuple_(Delivery.created_at, Delivery.id) < tuple_(*before))
    newest = query.order_by(Delivery.created_at.desc(), Delivery.id.desc()).limit(limit)
    return list(work.session.execute(newest).scalars())


def ping(work: UnitOfWork, webhook_id: UUID, now: datetime) -> Delivery:
    """Have a receiver told that nothing has happened, once, even if its webhook is switched off.

    While one is still to be sent, asking again returns that one.

    Raises:
        WebhookNotFound: If there is no such webhook, or it is another's.
    """
    webhook = get(work, webhook_id, lock=True)
    under_way = select(Delivery).where(
        Delivery.webhook_id == webhook.id, Delivery.event == Event.PING, Delivery.state == DeliveryState.PENDING
    )
    if (found := work.session.execute(under_way).scalars().first()) is not None:
        return found
    delivery = written(webhook, Event.PING, {"status": "ping", "created_at": now.isoformat()}, now)
    work.session.add(delivery)
    work.session.flush()
    return delivery


def send_again(work: UnitOfWork, webhook_id: UUID, delivery_id: UUID, now: datetime) -> Delivery:
    """Have a delivery that failed sent again, under the same id and with the same body, as patiently as at first.

    Raises:
        WebhookNotFound: If there is no such webhook, or it is another's.
        DeliveryNotFound: If it has no such delivery.
        DeliveryNotFailed: If that is under way, or was delivered.
        WebhookDisabled: If the webhook is switched off.
    """
    webhook = get(work, webhook_id, lock=True)
    query = select(Delivery).where(Delivery.id == delivery_id, Delivery.webhook_id == webhook.id).with_for_update()
    delivery = work.session.execute(query).scalar_one_or_none()
    if delivery is None:
        raise DeliveryNotFound
    if delivery.state != DeliveryState.FAILED:
        raise DeliveryNotFailed(delivery.state)
    if webhook.disabled_at is not None and delivery.event != Event.PING:
        raise WebhookDisabled(webhook.disabled_why)
    delivery.state, delivery.attempts, delivery.due_at, delivery.settled_at = DeliveryState.PENDING, 0, now, None
    work.session.flush()
    return delivery


def written(webhook: Webhook, event: Event, payload: dict[str, object], now: datetime) -> Delivery:
    """Return a delivery to be sent at once."""
    return Delivery(
        id=uuid4(),
        webhook_id=webhook.id,
        event=event,
        host=webhook.host,
        payload=payload,
        state=DeliveryState.PENDING,
        attempts=0,
        tries=[],
        created_at=now,
        due_at=now,
    )
