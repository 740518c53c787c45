"""Files that are named by URLs: what may be named, and the row that says what is to be fetched."""

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from uuid import UUID

from app.db.models import Upload
from app.domain.errors import LabelUnknown, UrlRefused
from app.domain.keys import base_name, input_key
from app.domain.tasks import UploadState
from app.services import queries, quotas, uploads

if TYPE_CHECKING:
    from app.context import Context
    from app.domain.fetching import FileSource
    from pipeline.contracts import Spec


def source_of(context: "Context", url: str) -> "FileSource":
    """Return who has the file at a URL.

    Raises:
        UrlRefused: If nobody has such files.
    """
    scheme = url.partition(":")[0].lower()
    if scheme not in context.sources:
        raise UrlRefused("bucket" if scheme == "s3" else "scheme")
    return context.sources[scheme]


def check(context: "Context", spec: "Spec", inputs: Mapping[str, str]) -> dict[str, str]:
    """Return URLs by label, each in its one form, in the order in which the pipeline names its inputs.

    Raises:
        LabelUnknown: If the pipeline takes no such file.
        UrlRefused: If one is not a URL from which files are fetched.
    """
    known = [slot.label for slot in spec.inputs]
    for label in inputs:
        if label not in known:
            raise LabelUnknown(label, known)
    return {label: source_of(context, inputs[label]).check(inputs[label]) for label in known if label in inputs}


def new_input(task_id: UUID, label: str, url: str, filename: str = "") -> Upload:
    """Return the row of a file that is to be fetched at once; the caller adds it.

    Args:
        task_id: Of which task.
        label: Which of its files.
        url: Where it is, in its one form.
        filename: Its name, if the URL does not end with it.
    """
    upload_id, now = secrets.token_urlsafe(24), queries.utc_now()
    return Upload(
        id=upload_id,
        task_id=task_id,
        label=label,
        key=input_key(task_id, label, upload_id),
        filename=base_name(filename or unquote(urlsplit(url).path)),
        state=UploadState.OPEN,
        created_at=now,
        source=urlsplit(url).netloc[:255],
        url=url,
        due_at=now,
    )


def fetch_input(context: "Context", task_id: UUID, label: str, url: str, filename: str = "") -> str:
    """Let a file be fetched from a URL; what was sent or named for its label before no longer counts.

    Returns:
        The URL's host.

    Raises:
        UrlRefused: If nothing may be fetched from it.
        VolcalError: As ``open_upload``.
    """
    with context.unit_of_work(read_only=True) as work:
        task = queries.get_task(work, task_id)
        uploads.check_open(context, task, label)
        quotas.check_bytes(work, context.policy, task.owner)
    row = new_input(task_id, label, source_of(context, url).check(url), filename)
    uploads.replace(context, row)
    return row.source
