"""Webhooks at /api/v1/webhooks: subscribe to what happens to one's tasks, see what was told, try it, tell it again."""

from datetime import timedelta
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from app.api.deps import ContextDep, OpeningDep, ReadDep, WorkDep
from app.api.problems import examples
from app.api.schemas import DeliveryOut, from_cursor, to_cursor
from app.api.webhooks.schemas import (
    DeliveryPage,
    NewWebhook,
    RotateIn,
    WebhookChange,
    WebhookIn,
    WebhookList,
    WebhookOut,
)
from app.domain.callbacks import DeliveryState
from app.domain.callbacks.webhooks import (
    DeliveryNotFailed,
    DeliveryNotFound,
    Event,
    WebhookDisabled,
    WebhookNotFound,
    WebhookQuotaReached,
)
from app.domain.errors import CursorInvalid, PipelineNotFound, UrlRefused
from app.services.queries import utc_now
from app.services.webhooks import history, subscriptions

router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"])

_HERE = "/api/v1/webhooks/…"
_NONE = WebhookNotFound()
_BAD_URL = UrlRefused("address")
_NO_PIPELINE = PipelineNotFound("x", ["volume_change"])


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    summary="Make a webhook",
    responses=examples(_BAD_URL, _NO_PIPELINE, WebhookQuotaReached(20, 20), instance="/api/v1/webhooks"),
)
async def create(body: WebhookIn, context: ContextDep, opening: OpeningDep, response: Response) -> NewWebhook:
    """Subscribe to one's own tasks; the answer has the secret that signs what is sent, and no other will."""

    def work() -> NewWebhook:
        events = [Event(event) for event in body.events]
        webhook, secret = subscriptions.create(
            context, body.url, name=body.name, events=events, pipelines=body.pipelines
        )
        return NewWebhook.with_secret(webhook, secret)

    made = await opening.run(work)
    response.headers["Location"] = f"{context.policy.public_url}/api/v1/webhooks/{made.id}"
    return made


@router.get("", summary="List webhooks")
def index(work: ReadDep) -> WebhookList:
    """List one's webhooks, oldest first."""
    return WebhookList(webhooks=[WebhookOut.of(webhook) for webhook in subscriptions.everything(work)])


@router.get("/{webhook_id}", summary="Look at a webhook", responses=examples(_NONE, instance=_HERE))
def show(webhook_id: UUID, work: ReadDep) -> WebhookOut:
    """Show what a webhook is told, and whether it is heard."""
    return WebhookOut.of(subscriptions.get(work, webhook_id))


@router.patch(
    "/{webhook_id}", summary="Change a webhook", responses=examples(_NONE, _BAD_URL, _NO_PIPELINE, instance=_HERE)
)
async def change(webhook_id: UUID, body: WebhookChange, context: ContextDep, opening: OpeningDep) -> WebhookOut:
    """Change URL, name, events or pipelines, or switch it on or off; what was still to be told follows the new URL."""
    changes = body.model_dump(exclude_none=True)
    return WebhookOut.of(await opening.run(subscriptions.change, context, webhook_id, changes, utc_now()))


@router.delete(
    "/{webhook_id}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Delete a webhook",
    responses=examples(_NONE, instance=_HERE),
)
def delete(webhook_id: UUID, context: ContextDep) -> None:
    """Delete a webhook and what is known of its deliveries; what was not sent by then is not sent."""
    subscriptions.remove(context, webhook_id)


@router.post("/{webhook_id}/rotate", summary="Exchange a webhook's secret", responses=examples(_NONE, instance=_HERE))
def rotate(webhook_id: UUID, context: ContextDep, body: RotateIn | None = None) -> NewWebhook:
    """Make a fresh secret; for a while deliveries have a signature by each of the two, so that receivers can follow."""
    grace = timedelta(seconds=(body or RotateIn()).grace_s)
    return NewWebhook.with_secret(*subscriptions.rotate(context, webhook_id, grace=grace, now=utc_now()))


@router.post(
    "/{webhook_id}/ping",
    status_code=HTTPStatus.ACCEPTED,
    summary="Try a webhook",
    responses=examples(_NONE, instance=_HERE),
)
def ping(webhook_id: UUID, work: WorkDep) -> DeliveryOut:
    """Have a ``webhook.ping`` sent, once; the list of deliveries says within seconds what came of it."""
    return DeliveryOut.of(history.ping(work, webhook_id, utc_now()))


@router.get(
    "/{webhook_id}/deliveries",
    summary="List a webhook's deliveries",
    responses=examples(_NONE, CursorInvalid(), instance=_HERE),
)
def deliveries(
    webhook_id: UUID,
    work: ReadDep,
    state: Annotated[DeliveryState | None, Query(description="Only deliveries that stand so.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most.")] = 50,
    cursor: Annotated[str | None, Query(description="``next`` of the page before.")] = None,
) -> DeliveryPage:
    """List what the receiver was told, or is to be told, with each attempt: newest first, a page at a time."""
    before = None if cursor is None else from_cursor(cursor)
    found = history.deliveries(work, webhook_id, state=state, before=before, limit=limit + 1)
    last = found[limit - 1] if len(found) > limit else None
    return DeliveryPage(
        deliveries=[DeliveryOut.of(delivery) for delivery in found[:limit]],
        next=None if last is None else to_cursor(last),
    )


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/redeliver",
    status_code=HTTPStatus.ACCEPTED,
    summary="Send a delivery again",
    responses=examples(
        _NONE, DeliveryNotFound(), DeliveryNotFailed("pending"), WebhookDisabled("failing"), instance=_HERE
    ),
)
def redeliver(webhook_id: UUID, delivery_id: UUID, work: WorkDep) -> DeliveryOut:
    """Have a delivery that failed sent again: same id, same body, and as many attempts as at first."""
    return DeliveryOut.of(history.send_again(work, webhook_id, delivery_id, utc_now()))
