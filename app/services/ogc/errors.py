"""What can be wrong with a request to run a process."""

from typing import Any

from app.domain.errors import Invalid, NotFound


class ExecutionInvalid(Invalid):
    """The inputs or outputs that were asked for do not fit the process."""

    code = "EXECUTION_INVALID"

    def __init__(self, problems: list[dict[str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{each['field']}: {each['message']}" for each in problems))

    def extensions(self) -> dict[str, Any]:
        """List each field and what is wrong with it."""
        return {"problems": self.problems}


class OutputNotFound(NotFound):
    """The job has no such output."""

    code = "OUTPUT_NOT_FOUND"

    def __init__(self, label: str, there: list[str]) -> None:
        super().__init__(f"The job left no output {label[:64]!r}; there are: {', '.join(there)}.")
