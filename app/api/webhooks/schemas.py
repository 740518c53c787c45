"""Bodies of the routes of webhooks."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from app.api.openapi.fields import NUMBER
from app.api.schemas import DeliveryOut, PlainText
from app.db.models import Webhook
from app.domain.callbacks.webhooks import LONGEST_GRACE_S, Disabled

TaskEvent = Literal["task.started", "task.done", "task.error", "task.killed"]
Events = Annotated[list[TaskEvent], Field(min_length=1, max_length=4, description="Of what it is told.")]
Pipelines = Annotated[
    list[Annotated[str, Field(max_length=64)]],
    Field(max_length=32, description="Of tasks of which pipelines it is told; none is all.", examples=[[]]),
]
Name = Annotated[PlainText, Field(max_length=100, description="For people.", examples=["Site office"])]
Url = Annotated[
    str,
    Field(
        max_length=2048,
        description="Where to POST; docs/callbacks.md says what may be called.",
        examples=["https://hooks.example.com/volcal"],
    ),
]


class WebhookIn(BaseModel):
    """The webhook that is wanted."""

    model_config = ConfigDict(extra="forbid")

    url: Url
    name: Name = ""
    events: Events = ["task.done", "task.error", "task.killed"]
    pipelines: Pipelines = []


class WebhookChange(BaseModel):
    """What is to be another than it was; what is not named stays."""

    model_config = ConfigDict(extra="forbid")

    url: Url | None = None
    name: Name | None = None
    events: Events | None = None
    pipelines: Pipelines | None = None
    enabled: StrictBool | None = Field(default=None, description="Switch it on or off.")


class RotateIn(BaseModel):
    """How long the old secret is used as well."""

    model_config = ConfigDict(extra="forbid")

    grace_s: Annotated[
        int,
        Field(
            ge=0,
            le=LONGEST_GRACE_S,
            description="Seconds that deliveries have a signature by each of the two; 0 drops the old secret at once.",
        ),
        NUMBER,
    ] = 86_400


class WebhookOut(BaseModel):
    """A standing subscription."""

    id: UUID
    name: str
    host: str = Field(
        description="Host that is told; the rest of the URL may be a secret.", examples=["hooks.example.com"]
    )
    events: list[TaskEvent]
    pipelines: list[str]
    enabled: bool = Field(description="Whether it is told of new events.")
    disabled_at: datetime | None = Field(description="When it was switched off.")
    disabled_reason: Disabled | None = Field(
        description="``owner``: by its owner; ``failing``: not heard for long; ``gone``: the receiver answered 410."
    )
    failing_since: datetime | None = Field(description="The first failure since it was last heard.")
    created_at: datetime

    @classmethod
    def of(cls, webhook: Webhook) -> "WebhookOut":
        """Show a webhook."""
        return cls.model_validate(_fields(webhook))


class NewWebhook(WebhookOut):
    """A webhook with a fresh secret."""

    secret: str = Field(description="What deliveries are signed with: shown now and never again.", examples=["whsec_…"])

    @classmethod
    def with_secret(cls, webhook: Webhook, secret: str) -> "NewWebhook":
        """Show a webhook and its secret."""
        return cls.model_validate(_fields(webhook) | {"secret": secret})


class WebhookList(BaseModel):
    """Webhooks, oldest first."""

    webhooks: list[WebhookOut]


class DeliveryPage(BaseModel):
    """Some deliveries of a webhook, newest first."""

    deliveries: list[DeliveryOut]
    next: str | None = Field(description="The ``cursor`` of the next page; null on the last.", examples=[None])


def _fields(webhook: Webhook) -> dict[str, object]:
    names = ("id", "name", "host", "events", "pipelines", "disabled_at", "failing_since", "created_at")
    off = webhook.disabled_at is not None
    return {name: getattr(webhook, name) for name in names} | {
        "enabled": not off,
        "disabled_reason": webhook.disabled_why if off else None,
    }
