"""Keys at /api/v1/keys: make, list, revoke and exchange them; for who has a key with the scope admin."""

from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.api.deps import ReadDep, WorkDep
from app.api.openapi.fields import NUMBER, Moment
from app.api.problems import examples
from app.api.schemas import PlainText
from app.db.models import Key
from app.domain.access import OWNER, Scope
from app.domain.errors import KeyNotFound, KeyOver
from app.services import keys

router = APIRouter(prefix="/api/v1/keys", tags=["keys"])

_PREFIX = "3f9a1c07be"
_NONE = KeyNotFound(_PREFIX)


class KeyIn(BaseModel):
    """The key that is wanted."""

    model_config = ConfigDict(extra="forbid")

    name: PlainText = Field(min_length=1, max_length=100, description="For people.", examples=["Drone 7"])
    owner: str = Field(
        pattern=f"^{OWNER.pattern}$", description="Whose tasks it sees and creates.", examples=["quarry-north"]
    )
    scopes: list[Scope] = Field(
        default=[Scope.WRITE], min_length=1, description="``write`` includes ``read``, ``admin`` both."
    )
    expires_at: Moment | None = Field(default=None, description="When it stops working; null is never.")
    rate: Annotated[int, Field(ge=0, le=1_000_000), NUMBER] | None = Field(
        default=None, description="Requests a minute; null is what the server has set, 0 no limit."
    )


class RotateIn(BaseModel):
    """How long the old key goes on working."""

    model_config = ConfigDict(extra="forbid")

    grace_s: Annotated[int, Field(ge=0, le=30 * 86_400), NUMBER] = Field(
        default=0, description="Seconds; 0 revokes it at once."
    )


class KeyOut(BaseModel):
    """What is known of a key."""

    prefix: str = Field(description="Its public part, which names it.", examples=[_PREFIX])
    name: str
    owner: str
    scopes: list[Scope]
    rate: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None = Field(description="When it was last used, to the hour.")

    @classmethod
    def of(cls, key: Key) -> "KeyOut":
        """Show a key."""
        return cls(**_fields(key))


class NewKey(KeyOut):
    """A fresh key."""

    key: str = Field(description="The key itself: shown now and never again.", examples=[f"vk_{_PREFIX}_…"])


class KeyList(BaseModel):
    """All keys, also revoked ones."""

    keys: list[KeyOut]


def _fields(key: Key) -> dict[str, object]:
    names = ("prefix", "name", "owner", "rate", "created_at", "expires_at", "revoked_at", "used_at")
    return {name: getattr(key, name) for name in names} | {"scopes": key.scopes.split()}


@router.post("", status_code=HTTPStatus.CREATED, summary="Make a key", responses=examples(instance="/api/v1/keys"))
def create(body: KeyIn, work: WorkDep) -> NewKey:
    """Make a key; the answer has the key itself, which is kept nowhere."""
    row, key = keys.create(work, **body.model_dump())
    return NewKey.model_validate(_fields(row) | {"key": key})


@router.get("", summary="List keys")
def index(work: ReadDep) -> KeyList:
    """List all keys by owner and age, without what would let anybody use them."""
    return KeyList(keys=[KeyOut.of(key) for key in keys.everything(work)])


@router.delete("/{prefix}", status_code=HTTPStatus.NO_CONTENT, summary="Revoke a key", responses=examples(_NONE))
def revoke(prefix: str, work: WorkDep) -> None:
    """Make a key useless, within seconds on every gateway; doing so twice is harmless."""
    keys.revoke(work, prefix)


@router.post(
    "/{prefix}/rotate",
    status_code=HTTPStatus.CREATED,
    summary="Exchange a key",
    responses=examples(_NONE, KeyOver("was revoked")),
)
def rotate(prefix: str, work: WorkDep, body: RotateIn | None = None) -> NewKey:
    """Put a fresh key with the same rights in the place of one; the old one is revoked, at once or a while later."""
    row, key = keys.rotate(work, prefix, grace=timedelta(seconds=(body or RotateIn()).grace_s))
    return NewKey.model_validate(_fields(row) | {"key": key})
