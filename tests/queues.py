"""A stand-in for the queue."""

from uuid import UUID


class RecordingQueue:
    """A JobQueue that only remembers."""

    def __init__(self) -> None:
        self.submitted: list[UUID] = []
        self.rung: list[tuple[UUID, int, str]] = []

    def submit(self, task_id: UUID, step: int = 0, queue: str = "") -> None:
        self.submitted.append(task_id)
        self.rung.append((task_id, step, queue))
