"""/tusd_hook: what a tusd beside the gateway has to say. Every word of it is a hint that is checked."""

import base64
import binascii
import hmac
import json
import logging
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import select

from app.api.deps import AdmittingDep, ContextDep
from app.context import Context
from app.db.models import Upload
from app.domain.errors import HookSecretInvalid, UploadQuotaReached, VolcalError
from app.services import quotas, uploads
from app.uploads.tusd import TusdUploads

log = logging.getLogger(__name__)

router = APIRouter(include_in_schema=False)

_LONGEST_HANDLE = 1024
_REFUSAL = {
    "RejectUpload": True,
    "HTTPResponse": {
        "StatusCode": 403,
        "Body": '{"code":"UPLOAD_REFUSED","detail":"Uploads are opened by creating a task (POST /create_task)."}',
        "Header": {"Content-Type": "application/json"},
    },
}


async def _authorised(request: Request, context: ContextDep) -> None:
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
async def tusd_hook(
    request: Request, context: ContextDep, admitting: AdmittingDep, _: Annotated[None, Depends(_authorised)]
) -> dict[str, Any]:
    """Take a hint: look at an upload said to be finished, stop one that nobody wants, refuse strangers'."""
    try:
        event = json.loads(await request.body())
    except (ValueError, RecursionError):
        return {}
    if _member(event, "Type", str) == "pre-create":
        # Nothing on this way may need a thread that whoever opens uploads holds while tusd asks back.
        return await admitting.run(_admit, context, _member(event, "Event", dict))
    return await run_in_threadpool(_take, context, event)


def _admit(context: Context, said: dict[str, Any]) -> dict[str, Any]:
    """Say whether an upload may be opened, and under which id: only those that we open ourselves."""
    if not isinstance(context.uploads, TusdUploads):
        return {}  # its uploads are of no use to anybody: no row is made for them
    key = context.uploads.admits(said, time.time())
    if key is None or uploads.is_issued(context, key):  # a grant that is used again would replace a file
        log.warning("refused an upload that was not opened by creating a task")
        return _REFUSAL
    return {"ChangeFileInfo": {"ID": key}}


def _take(context: Context, event: Any) -> dict[str, Any]:
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
        elif kind == "post-receive":
            _check_room(context, upload, _member(_member(event, "Event", dict), "Upload", dict))
    except UploadQuotaReached as error:
        log.info("an upload was stopped: %s", error)
        return {"StopUpload": True}
    except VolcalError as error:
        log.info("a hook about an upload was ignored: %s", error)
    except Exception:
        if kind != "pre-finish":
            raise  # tusd tries again
        # The bytes are safe: the client must not be told otherwise. post-finish, or the janitor, comes again.
        log.exception("a finished upload could not be recorded yet")
    return {}


def _check_room(context: Context, upload: Upload, said: dict[str, Any]) -> None:
    """Refuse what its owner has no room for; tusd itself knows nothing of owners."""
    if context.policy.quota_bytes:
        length = max(_member(said, "Size", int), _member(said, "Offset", int))
        quotas.check_file(context, uploads.owner_of(context, upload.id), upload.id, length)


def _issued(context: Context, said: Any) -> Upload | None:
    """Return the upload that the hook is about, if it is one of ours and the hook says nothing that contradicts."""
    handle = _member(said, "ID", str)
    if not handle or len(handle) > _LONGEST_HANDLE or not handle.isascii() or not handle.isprintable():
        return None
    with context.unit_of_work(read_only=True) as work:
        upload = work.session.execute(select(Upload).where(Upload.handle == handle)).scalar_one_or_none()
    if upload is None:
        return None
    claims = _member(said, "MetaData", dict)
    truth = {"label": upload.label, "task_id": str(upload.task_id)}
    return upload if all(claims.get(name, value) == value for name, value in truth.items()) else None


def _member(of: Any, name: str, kind: type[Any]) -> Any:
    value = of.get(name) if isinstance(of, dict) else None
    return value if isinstance(value, kind) else kind()
