"""/tusd_hook: what a tusd beside the gateway has to say. Every word of it is a hint that is checked."""

import base64
import binascii
import hmac
import json
import logging
import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from app.api.deps import ContextDep
from app.context import Context
from app.db.models import Upload
from app.domain.errors import HookSecretInvalid, VolcalError
from app.services import uploads

log = logging.getLogger(__name__)

router = APIRouter(include_in_schema=False)

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _authorised(request: Request, context: ContextDep) -> None:
    expected = context.policy.hook_secret
    given = request.query_params.get("secret") or _password(request.headers.get("authorization", ""))
    # Both are compared even if none is configured, so that the time tells nothing.
    same = hmac.compare_digest((given or "").encode("utf-8", "replace"), (expected or "").encode())
    if not expected or not same:
        log.warning("a hook came without the right secret")
        raise HookSecretInvalid


def _password(header: str) -> str | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        _, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (ValueError, binascii.Error):
        return None
    return password


@router.post("/tusd_hook")
async def tusd_hook(request: Request, context: ContextDep, _: Annotated[None, Depends(_authorised)]) -> dict[str, bool]:
    """Take a hint: look at an upload that is said to be finished, stop one that nobody wants."""
    try:
        event = json.loads(await request.body())
    except (ValueError, RecursionError):
        return {}
    return await run_in_threadpool(_take, context, event)


def _take(context: Context, event: Any) -> dict[str, bool]:
    """Act on an event; anything that does not fit what was issued is ignored, since a retry would not help."""
    kind = _member(event, "Type", str)
    upload = _issued(context, _member(event, "Event", dict).get("Upload"))
    if upload is None:
        return {}
    try:
        if kind in {"pre-finish", "post-finish"}:
            uploads.finished(context, upload.id)
        elif kind == "post-receive" and uploads.is_unwanted(context, upload.id):
            return {"StopUpload": True}
    except VolcalError as error:
        log.info("a hook about an upload was ignored: %s", error)
    return {}


def _issued(context: Context, said: Any) -> Upload | None:
    """Return the upload that the hook is about, if it is one of ours and the hook says nothing that contradicts."""
    # An S3 store of tusd appends "+<multipart id>" to the id that was issued.
    upload_id = _member(said, "ID", str).partition("+")[0]
    if not _ID.fullmatch(upload_id):
        return None
    with context.unit_of_work(read_only=True) as work:
        upload = work.session.get(Upload, upload_id)
    if upload is None:
        return None
    claims = _member(said, "MetaData", dict)
    truth = {"label": upload.label, "task_id": str(upload.task_id)}
    return upload if all(claims.get(name, value) == value for name, value in truth.items()) else None


def _member(of: Any, name: str, kind: type[Any]) -> Any:
    value = of.get(name) if isinstance(of, dict) else None
    return value if isinstance(value, kind) else kind()
