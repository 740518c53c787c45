"""What is said between those who fetch files from URLs and those who know where the files are."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from app.domain.errors import VolcalError
from app.domain.failures import error_document


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a file that is being fetched.

    Args:
        received: Bytes that are here.
        length: Bytes in all; None until its host has said so.
        validator: Tells this version of the file from others; empty if its host has no word for it.
        filename: Its name, as far as it is known.
    """

    received: int = 0
    length: int | None = None
    validator: str = ""
    filename: str = ""


Look = Callable[[Known], None]
"""Is told how far a fetch is, several times a second, and may raise to end it."""


class FetchProblem(Exception):
    """A file did not come, or not all of it.

    Args:
        reason: What kind of failure, for programs.
        message: One line for people; says nothing of addresses.
        passing: Whether trying again later may help.
        retry_s: How long its host wants to be left alone, seconds.
        code: Which code the task ends with, if it is given up.
    """

    def __init__(
        self, reason: str, message: str, *, passing: bool = False, retry_s: float = 0.0, code: str = "FETCH_FAILED"
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.passing = passing
        self.retry_s = retry_s
        self.code = code


class FileSource(Protocol):
    """Has files that users name by URLs."""

    def check(self, url: str) -> str:
        """Return the URL in its one form.

        Raises:
            UrlRefused: If nothing may be fetched from it.
        """

    def fetch(self, url: str, target: Path, known: Known, look: Look) -> Known:
        """Append to ``target`` what it lacks of a file, or write it anew if the file is another one by now.

        Args:
            url: Where the file is.
            target: What is here of it: as many bytes as its size.
            known: What an earlier call learned.
            look: Told what is known, each time that is more.

        Returns:
            What is known of the file, all of which is in ``target`` then.

        Raises:
            UrlRefused: If it may not be fetched.
            FetchProblem: If it did not come whole; what came stays.
            OSError: If it cannot be written.
        """


_REMEDIES = {
    "status": "Check the URL, and that its host lets anybody who has it fetch the file; links that are signed expire.",
    "too_large": "Crop or thin the survey.",
    "quota": "Delete tasks that are no longer needed (DELETE /api/v1/tasks/{id}).",
    "length": "Name a host that tells how long the file is (Content-Length), or upload the file.",
}
_AGAIN = "Check the URL and its host, then name it again, or upload the file."


def failed(problem: FetchProblem, label: str, host: str) -> dict[str, Any]:
    """Return the error document of a file that was given up.

    >>> failed(FetchProblem("status", "The host answered 404."), "pre", "example.org")["message"]
    'pre could not be fetched from example.org: The host answered 404.'
    """
    return error_document(
        problem.code,
        f"{label} could not be fetched from {host}: {problem}",
        label=label,
        remedy=_REMEDIES.get(problem.reason, _AGAIN),
        details={"host": host, "reason": problem.reason},
    )


def as_problem(error: VolcalError) -> FetchProblem:
    """Return the failure that a refusal of ours is.

    >>> from app.domain.errors import UrlRefused
    >>> as_problem(UrlRefused("downgrade")).code
    'URL_REFUSED'
    """
    reason = {"UPLOAD_TOO_LARGE": "too_large", "QUOTA_UPLOAD": "quota"}.get(error.code, "refused")
    return FetchProblem(reason, str(error), code=error.code)
