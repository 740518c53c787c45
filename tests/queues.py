"""A stand-in for the queue."""

from uuid import UUID


class RecordingQueue:
    """A JobQueue that only remembers."""

    def __init__(self) -> None:
        self.submitted: list[UUID] = []

    def submit(self, task_id: UUID) -> None:
        self.submitted.append(task_id)
