"""Where objects live in the store."""

from uuid import UUID


def task_prefix(task_id: UUID) -> str:
    """Return what all objects of a task start with."""
    return f"tasks/{task_id}/"


def input_key(task_id: UUID, label: str, upload_id: str) -> str:
    """Return where an upload's bytes go; a fresh upload never overwrites an old one.

    >>> input_key(UUID(int=7), "pre", "abc")
    'tasks/00000000-0000-0000-0000-000000000007/in/pre-abc'
    """
    return f"{task_prefix(task_id)}in/{label}-{upload_id}"


def output_key(task_id: UUID, fence: int, name: str) -> str:
    """Return where a result file goes; each attempt has a folder of its own.

    >>> output_key(UUID(int=7), 2, "hulls/1.png")
    'tasks/00000000-0000-0000-0000-000000000007/out/2/hulls/1.png'
    """
    return f"{task_prefix(task_id)}out/{fence}/{name}"
