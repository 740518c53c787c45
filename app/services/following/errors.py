"""What can go wrong while somebody follows a task."""

from app.domain.errors import TooMany


class StreamsExhausted(TooMany):
    """The caller follows as many tasks at once as are allowed."""

    code = "TOO_MANY_STREAMS"
    retry_s = 5.0

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} tasks are followed at once from here already.",
            "Close a connection that follows a task, or ask for the task now and then instead.",
            limit=limit,
        )
