"""What can go wrong between a client and its server.

ClientError
├── Unreachable     UNREACHABLE   no answer for as long as one is patient
├── Refused         (server's)    the server answered that it will not, and why
├── TaskFailed      (server's)    the task ended without a result, and why
├── TransferFailed  TRANSFER      a file's bytes are not what they should be
└── WaitedTooLong   WAITED        the task was not over in the time given
"""

from typing import Any


class ClientError(Exception):
    """Something the caller can understand and mend.

    Args:
        message: One sentence: what is wrong.
        code: The public code, such as ``INPUT_INVALID``.
        remedy: One sentence: what can be done about it; may be empty.
    """

    def __init__(self, message: str, *, code: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.remedy = remedy


class Unreachable(ClientError):
    """The server does not answer."""

    def __init__(self, server: str, why: object) -> None:
        super().__init__(
            f"{server} does not answer ({why}).",
            code="UNREACHABLE",
            remedy="Check the address (--server or VOLCAL_SERVER) and that the server runs (`volcal up`).",
        )


class Refused(ClientError):
    """The server answered that it will not.

    Args:
        status: The HTTP status.
        code: The server's code.
        message: What the server says.
        remedy: What the server advises.
        details: All else that the server says.
    """

    def __init__(
        self, status: int, *, code: str, message: str, remedy: str = "", details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, code=code, remedy=remedy)
        self.status = status
        self.details = details or {}


class TaskFailed(ClientError):
    """The task ended without a result.

    Args:
        status: The task's status: ``error`` or ``killed``.
        error: The task's error document.
    """

    def __init__(self, status: str, error: dict[str, Any]) -> None:
        label = error.get("label")
        message = str(error.get("message") or f"The task is {status}.")
        super().__init__(message, code=str(error.get("code") or "INTERNAL"), remedy=str(error.get("remedy") or ""))
        self.status = status
        self.label: str | None = label if isinstance(label, str) else None


class TransferFailed(ClientError):
    """A file's bytes are not what they should be, or cannot be moved."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, code="TRANSFER", remedy=remedy)


class WaitedTooLong(ClientError):
    """The task was not over in the time given; it goes on."""

    def __init__(self, task_id: str, seconds: float) -> None:
        super().__init__(
            f"Task {task_id} was not over after {seconds:.0f} s; it goes on.",
            code="WAITED",
            remedy=f"Look again with `volcal status {task_id}`.",
        )
