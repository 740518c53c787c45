"""What can go wrong, in the words of the domain.

VolcalError
├── NotFound
│   ├── TaskNotFound
│   ├── ResultExpired
│   ├── UploadNotFound
│   ├── ObjectNotFound
│   ├── PipelineNotFound
│   └── KeyNotFound
├── Conflict
│   ├── IllegalTransition
│   ├── InputsMissing
│   ├── KeyOver
│   ├── NotReady
│   └── UploadClosed
├── Unauthenticated
│   ├── KeyMissing
│   └── KeyInvalid
├── Forbidden
│   ├── LinkInvalid
│   ├── HookSecretInvalid
│   ├── ScopeMissing
│   └── UploadRefused
├── TooMany
│   ├── RateLimited
│   ├── TaskQuotaReached
│   └── ByteQuotaReached
├── TooLarge
│   ├── UploadQuotaReached
│   └── UploadTooLarge
└── Invalid
    ├── OptionsInvalid
    ├── CursorInvalid
    ├── LabelUnknown
    └── UrlRefused

No error here knows HTTP; ``app.api.problems`` holds the one table that does. Codes are public and
frozen; those of a run are in ``pipeline.errors``, and ``docs/errors.md`` lists both.
"""

from collections.abc import Iterable
from typing import Any, ClassVar


class VolcalError(Exception):
    """Something the caller can understand and mend."""

    code: ClassVar[str] = "VOLCAL"

    def extensions(self) -> dict[str, Any]:
        """Return further members of the problem document."""
        return {}


class NotFound(VolcalError):
    """What was asked for does not exist."""


class TaskNotFound(NotFound):
    """There is no such task."""

    code = "TASK_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("Task not found")


class ResultExpired(NotFound):
    """The task was deleted for its age, with its result."""

    code = "RESULT_EXPIRED"

    def __init__(self) -> None:
        super().__init__("The task was deleted for its age, with all of its files; run it again to have its result.")


class UploadNotFound(NotFound):
    """There is no such upload, or it has expired."""

    code = "UPLOAD_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("There is no such upload, or it has expired.")


class ObjectNotFound(NotFound):
    """There is no such file."""

    code = "OBJECT_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no file {name!r}.")


class PipelineNotFound(NotFound):
    """There is no such pipeline."""

    code = "PIPELINE_NOT_FOUND"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"There is no pipeline {name!r}; known: {', '.join(sorted(known))}.")


class KeyNotFound(NotFound):
    """There is no such key."""

    code = "KEY_NOT_FOUND"

    def __init__(self, prefix: str) -> None:
        super().__init__(f"There is no key {prefix[:16]!r}.")


class Conflict(VolcalError):
    """The request does not fit the state things are in."""


class IllegalTransition(Conflict):
    """A task cannot go from its state to the wanted one."""

    code = "ILLEGAL_TRANSITION"

    def __init__(self, current: str, wanted: str) -> None:
        super().__init__(f"A task that is {current} cannot become {wanted}.")
        self.current = current
        self.wanted = wanted

    def extensions(self) -> dict[str, Any]:
        """Name the two states."""
        return {"current": str(self.current), "wanted": str(self.wanted)}


class InputsMissing(Conflict):
    """A task was started before all of its files had arrived."""

    code = "INPUTS_MISSING"

    def __init__(self, missing: Iterable[str]) -> None:
        self.missing = list(missing)
        super().__init__(f"Still to be uploaded: {', '.join(self.missing)}.")

    def extensions(self) -> dict[str, Any]:
        """List the labels."""
        return {"missing": self.missing}


class NotReady(Conflict):
    """The task has no result yet."""

    code = "NOT_READY"

    def __init__(self, state: str) -> None:
        super().__init__(f"The task is {state}; results exist once it is done.")


class KeyOver(Conflict):
    """The key is revoked or expired, so it cannot be exchanged."""

    code = "KEY_OVER"

    def __init__(self, why: str) -> None:
        super().__init__(f"The key {why}; make a new one.")


class UploadClosed(Conflict):
    """The upload is finished, or its task no longer takes files."""

    code = "UPLOAD_CLOSED"

    def __init__(self, why: str) -> None:
        super().__init__(why)


class _Mendable(Exception):
    """Beside ``VolcalError``: says what to do about it."""

    def __init__(self, message: str, remedy: str, **facts: Any) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.facts = facts

    def extensions(self) -> dict[str, Any]:
        """Say what can be done, and the figures."""
        return {"remedy": self.remedy, **self.facts}


class Unauthenticated(_Mendable, VolcalError):
    """It is not known who calls."""


class KeyMissing(Unauthenticated):
    """A key is needed here, and none was sent."""

    code = "KEY_MISSING"

    def __init__(self) -> None:
        super().__init__(
            "This server asks for a key, and none was sent.",
            "Send the header Authorization: Bearer <key> (--key or VOLCAL_API_KEY); who runs the server makes keys by "
            "`volcal keys create`.",
        )


class KeyInvalid(Unauthenticated):
    """The key is unknown, revoked or expired."""

    code = "KEY_INVALID"

    def __init__(self, why: str = "is not known here") -> None:
        super().__init__(
            f"The key {why}.", "Check that it was copied whole and is of this server; or ask who runs it for a new one."
        )


class Forbidden(VolcalError):
    """The caller may not do this."""


class ScopeMissing(_Mendable, Forbidden):
    """The key is not good for this."""

    code = "SCOPE_MISSING"

    def __init__(self, needed: str, has: Iterable[str]) -> None:
        owns = sorted(has)
        super().__init__(
            f"This needs a key with the scope {needed}; this one has {', '.join(owns) or 'none'}.",
            f"Ask who runs the server for a key with the scope {needed}.",
            needed=str(needed),
            scopes=[str(each) for each in owns],
        )


class TooMany(_Mendable, VolcalError):
    """More than the limits allow, for now."""

    retry_s: float = 60.0


class RateLimited(TooMany):
    """Too many requests in too short a time."""

    code = "RATE_LIMITED"

    def __init__(self, limit: int, window_s: float, retry_s: float, who: str = "this key") -> None:
        super().__init__(
            f"More than {limit} requests in {window_s:.0f} s from {who}.",
            "Wait as long as Retry-After says; ask less often.",
            limit=limit,
            window_s=window_s,
        )
        self.retry_s = retry_s


class TaskQuotaReached(TooMany):
    """The owner has as many unfinished tasks as are allowed."""

    code = "QUOTA_TASKS"

    def __init__(self, owner: str, limit: int, used: int) -> None:
        super().__init__(
            f"{owner} has {used} tasks that are not finished; {limit} are allowed.",
            "Wait until one of them ends, or cancel one.",
            limit=limit,
            used=used,
        )


class ByteQuotaReached(TooMany):
    """The owner holds as many bytes as are allowed."""

    code = "QUOTA_BYTES"

    def __init__(self, owner: str, limit: int, used: int) -> None:
        super().__init__(
            f"The files of {owner} hold {used} bytes; {limit} are allowed.",
            "Delete tasks that are no longer needed (DELETE /api/v1/tasks/{id}).",
            limit=limit,
            used=used,
        )


class LinkInvalid(Forbidden):
    """The link's signature does not fit, or it has expired."""

    code = "LINK_INVALID"

    def __init__(self) -> None:
        super().__init__("This link is not valid or has expired; ask for the task again to get a fresh one.")


class HookSecretInvalid(Forbidden):
    """The hook came without the right secret."""

    code = "HOOK_SECRET_INVALID"

    def __init__(self) -> None:
        super().__init__("The hook secret is missing or wrong.")


class UploadRefused(Forbidden):
    """Uploads are opened by creating a task, not by the client itself."""

    code = "UPLOAD_REFUSED"


class TooLarge(VolcalError):
    """Something is larger than the limits allow."""


class UploadQuotaReached(_Mendable, TooLarge):
    """With this file the owner would hold more bytes than are allowed."""

    code = "QUOTA_UPLOAD"

    def __init__(self, limit: int, used: int, length: int) -> None:
        super().__init__(
            f"The file has {length} bytes, beside {used} that its owner holds already; {limit} are allowed.",
            "Delete tasks that are no longer needed (DELETE /api/v1/tasks/{id}), then send it again.",
            limit=limit,
            used=used,
        )


class UploadTooLarge(TooLarge):
    """The upload is larger than allowed, or longer than it said."""

    code = "UPLOAD_TOO_LARGE"


class Invalid(VolcalError):
    """The request says something that cannot be."""


class OptionsInvalid(Invalid):
    """The options do not fit the pipeline."""

    code = "OPTIONS_INVALID"

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{p['field']}: {p['message']}" for p in problems))

    def extensions(self) -> dict[str, Any]:
        """List each field and what is wrong with it."""
        return {"problems": self.problems}


class CursorInvalid(Invalid):
    """The cursor is not one that a page gave."""

    code = "CURSOR_INVALID"

    def __init__(self) -> None:
        super().__init__("The cursor is not one that a page gave; start without one.")


class LabelUnknown(Invalid):
    """The task has no input of that label."""

    code = "LABEL_UNKNOWN"

    def __init__(self, label: str, known: Iterable[str]) -> None:
        super().__init__(f"The task has no input {label!r}; it takes {', '.join(known)}.")


class UrlRefused(Invalid):
    """The URL is not one that this service may call."""

    code = "URL_REFUSED"

    _WHY: ClassVar[dict[str, str]] = {
        "scheme": "only http:// and https:// are taken, and s3:// for files where the operator allows it",
        "bucket": "its bucket is not open to this service (VOLCAL_FETCH_BUCKETS)",
        "form": "it is not a plain URL of at most 2048 characters",
        "login": "it holds a user or a password",
        "host": "its host is neither a name nor an address in the usual form",
        # The same words for both, so that nobody learns from them which names exist inside.
        "address": "its host is unknown, or its address or port is not open to this service (VOLCAL_FETCH_ALLOW)",
        "downgrade": "it redirects from https to http",
        "unsigned": "this server has no secret to sign with (VOLCAL_WEBHOOK_SECRET)",
    }

    def __init__(self, reason: str) -> None:
        super().__init__(f"The URL is not one that may be called: {self._WHY[reason]}.")
        self.reason = reason

    def extensions(self) -> dict[str, Any]:
        """Say why, for programs."""
        return {"reason": self.reason}
