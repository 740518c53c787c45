"""Whose is an upload, and has its owner room for it: asked before a byte is read."""

from typing import Annotated

from fastapi import Depends, Request

from app.api.deps import CALLER, REFUSAL, Aside, ContextDep
from app.context import Context
from app.domain.access import ANYBODY, Caller
from app.domain.errors import UploadNotFound
from app.services import quotas, uploads

_MANY = 20_000
_MAX_DIGITS = 18


class Owners:
    """Remembers whose uploads are, which never changes; asks in threads of its own, so that nobody's bytes wait."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._asking = Aside(8)

    async def of(self, context: Context, upload_id: str) -> str:
        """Return the owner of an upload's task.

        Raises:
            UploadNotFound: If no such upload was issued.
        """
        if (owner := self._known.get(upload_id)) is None:
            owner = await self._asking.run(uploads.owner_of, context, upload_id)
            if len(self._known) >= _MANY:
                self._known.clear()
            self._known[upload_id] = owner
        return owner

    async def check_room(self, context: Context, upload_id: str, length: int) -> None:
        """Refuse a file of so many bytes if its owner would hold too much.

        Raises:
            UploadQuotaReached: If so.
        """
        await self._asking.run(quotas.check_file, context, await self.of(context, upload_id), upload_id, length)


async def _owners(request: Request) -> Owners:
    state = request.app.state
    if getattr(state, "owners", None) is None:
        state.owners = Owners()
    found: Owners = state.owners
    return found


async def ours(
    request: Request, upload_id: str, context: ContextDep, owners: Annotated[Owners, Depends(_owners)]
) -> None:
    """Refuse who may not call; let who comes with a key see their own uploads only.

    Who has none, where none is needed, has the URL: 192 random bits that were given to the task's owner alone.

    Raises:
        UploadNotFound: If the upload is another's.
        UploadQuotaReached: If the file is more than its owner has room for.
    """
    if (refusal := request.scope.get(REFUSAL)) is not None:
        raise refusal
    caller: Caller = request.scope.get(CALLER, ANYBODY)
    everything = context.seen_by(None)
    if caller.key and not caller.sees_all and await owners.of(everything, upload_id) != caller.owner:
        raise UploadNotFound
    if context.policy.quota_bytes and (length := _length(request)):
        await owners.check_room(everything, upload_id, length)


def _length(request: Request) -> int:
    """Return how long the whole file is at least, as far as the request says so; the route looks closer."""
    told = [request.headers.get(name, "") for name in ("upload-length", "upload-offset", "content-length")]
    whole, offset, body = (int(t) if t.isascii() and t.isdigit() and len(t) <= _MAX_DIGITS else 0 for t in told)
    return max(whole, offset + body)
