"""A stand-in for the queue."""

from uuid import UUID


class RecordingQueue:
    """A JobQueue that only remembers."""

    def __init__(self) -> None:
        self.submitted: list[UUID] = []
        self.rung: list[tuple[UUID, int, str]] = []
        self.called: list[tuple[UUID, int, int, str]] = []

    def submit(self, task_id: UUID, step: int = 0, queue: str = "") -> None:
        self.submitted.append(task_id)
        self.rung.append((task_id, step, queue))

    def call_helpers(self, task_id: UUID, fence: int, count: int, queue: str = "") -> None:
        self.called.append((task_id, fence, count, queue))
