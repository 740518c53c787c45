"""What an owner may do to their webhooks: make, list, change, delete, exchange the secret."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from sqlalchemy.sql.elements import ColumnElement

from app.db.models import Delivery, Webhook
from app.db.session import UnitOfWork
from app.domain.callbacks import DeliveryState
from app.domain.callbacks.webhooks import (
    ENDS,
    Disabled,
    Event,
    WebhookNotFound,
    WebhookQuotaReached,
    mark_of,
    new_salt,
    secret_of,
)
from app.domain.errors import UrlRefused
from app.services import callbacks, queries, quotas
from app.services.tasks import find_spec
from app.services.webhooks import health

if TYPE_CHECKING:
    from app.context import Context


def create(
    context: "Context", url: str, *, name: str = "", events: Sequence[Event] = ENDS, pipelines: Sequence[str] = ()
) -> tuple[Webhook, str]:
    """Make a webhook; return it and its secret, which cannot be asked for again.

    Args:
        context: The application's parts, of whoever owns it.
        url: Where to send.
        name: For people.
        events: Of what to tell.
        pipelines: Of whose tasks to tell; none is all.

    Raises:
        UrlRefused: If the URL may not be called, or nothing could be signed.
        PipelineNotFound: If there is no such pipeline.
        WebhookQuotaReached: If the owner has as many as are allowed.
    """
    url = callbacks.check(context, url)
    for pipeline in pipelines:
        find_spec(context.catalogue, pipeline)
    salt = new_salt()
    secret = _secret(context, salt)
    webhook = Webhook(
        id=uuid4(),
        owner=context.owner,
        name=name,
        url=url,
        host=_host(url),
        events=[str(event) for event in events],
        pipelines=list(pipelines),
        salt=salt,
        mark=mark_of(secret),
        disabled_why="",
        created_at=queries.utc_now(),
    )
    limit = context.policy.quota_webhooks
    with context.unit_of_work() as work:
        quotas.take_turn(work, context.owner)
        own = select(func.count()).select_from(Webhook).where(Webhook.owner == context.owner)
        if limit and (used := work.session.execute(own).scalar_one()) >= limit:
            raise WebhookQuotaReached(limit, used)
        work.session.add(webhook)
        work.commit()
    return webhook, secret


def everything(work: UnitOfWork) -> list[Webhook]:
    """Return the webhooks that this unit of work sees, oldest first."""
    query = select(Webhook).where(*_seen(work)).order_by(Webhook.created_at, Webhook.id)
    return list(work.session.execute(query).scalars())


def get(work: UnitOfWork, webhook_id: UUID, *, lock: bool = False) -> Webhook:
    """Return a webhook.

    Args:
        work: The transaction.
        webhook_id: Which.
        lock: Whether others that want to change it must wait until this transaction ends.

    Raises:
        WebhookNotFound: If there is none, or it is another's.
    """
    query = select(Webhook).where(Webhook.id == webhook_id, *_seen(work))
    if lock:
        query = query.with_for_update(key_share=True)
    found = work.session.execute(query).scalar_one_or_none()
    if found is None:
        raise WebhookNotFound
    return found


def change(context: "Context", webhook_id: UUID, changes: dict[str, Any], now: datetime) -> Webhook:
    """Change what is named in ``changes``: ``url``, ``name``, ``events``, ``pipelines``, ``enabled``.

    Raises:
        WebhookNotFound: If there is none, or it is another's.
        UrlRefused: If the URL may not be called.
        PipelineNotFound: If there is no such pipeline.
    """
    with context.unit_of_work(read_only=True) as work:
        get(work, webhook_id)  # who may not see it learns nothing of its URL either
    if (url := changes.get("url")) is not None:
        url = callbacks.check(context, url)
    for pipeline in changes.get("pipelines") or []:
        find_spec(context.catalogue, pipeline)
    with context.unit_of_work() as work:
        webhook = get(work, webhook_id, lock=True)
        for name in ("name", "events", "pipelines"):
            if changes.get(name) is not None:
                setattr(webhook, name, changes[name])
        if url is not None:
            webhook.url, webhook.host = url, _host(url)
            work.session.execute(
                update(Delivery)
                .where(Delivery.webhook_id == webhook.id, Delivery.state == DeliveryState.PENDING)
                .values(host=webhook.host)
                .execution_options(synchronize_session=False)
            )
        if changes.get("enabled") is True:
            health.switch_on(webhook)
        elif changes.get("enabled") is False and webhook.disabled_at is None:
            health.switch_off(work, webhook, Disabled.OWNER, now)
        work.commit()
    return webhook


def rotate(context: "Context", webhook_id: UUID, *, grace: timedelta, now: datetime) -> tuple[Webhook, str]:
    """Exchange a webhook's secret; while the grace lasts, what is sent is signed with the old one as well.

    Raises:
        WebhookNotFound: If there is none, or it is another's.
        UrlRefused: If nothing could be signed.
    """
    with context.unit_of_work() as work:
        webhook = get(work, webhook_id, lock=True)
        webhook.old_salt, webhook.old_until = (webhook.salt, now + grace) if grace else (None, None)
        webhook.salt = new_salt()
        secret = _secret(context, webhook.salt)
        webhook.mark = mark_of(secret)
        work.commit()
    return webhook, secret


def remove(context: "Context", webhook_id: UUID) -> None:
    """Delete a webhook with its deliveries; what was not sent by then is not sent.

    Raises:
        WebhookNotFound: If there is none, or it is another's.
    """
    with context.unit_of_work() as work:
        work.session.delete(get(work, webhook_id, lock=True))
        work.commit()


def _secret(context: "Context", salt: str) -> str:
    if context.policy.callback_secret is None:
        raise UrlRefused("unsigned")
    return secret_of(context.policy.callback_secret, salt)


def _host(url: str) -> str:
    return urlsplit(url).netloc[:255]


def _seen(work: UnitOfWork) -> list[ColumnElement[bool]]:
    return [] if work.owner is None else [Webhook.owner == work.owner]
