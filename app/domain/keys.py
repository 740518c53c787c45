"""Where objects live in the store, and what may be a key at all."""

import unicodedata
from pathlib import PurePosixPath
from uuid import UUID

_LONGEST = 1024  # bytes, as S3 has it
_LONGEST_PART = 255  # bytes, as file systems have it


def task_prefix(task_id: UUID) -> str:
    """Return what all objects of a task start with."""
    return f"tasks/{task_id}/"


def input_key(task_id: UUID, label: str, upload_id: str) -> str:
    """Return where an upload's bytes go; a fresh upload never overwrites an old one.

    >>> input_key(UUID(int=7), "pre", "abc")
    'tasks/00000000-0000-0000-0000-000000000007/in/pre-abc'
    """
    return f"{task_prefix(task_id)}in/{label}-{upload_id}"


def upload_id_of(key: str) -> str:
    """Return the upload that an input's key is made for; empty if it is no such key.

    >>> upload_id_of(input_key(UUID(int=7), "pre", "a-b_c"))
    'a-b_c'
    """
    return key.rpartition("/in/")[2].partition("-")[2]


def output_key(task_id: UUID, fence: int, name: str) -> str:
    """Return where a result file goes; each attempt has a folder of its own.

    >>> output_key(UUID(int=7), 2, "hulls/1.png")
    'tasks/00000000-0000-0000-0000-000000000007/out/2/hulls/1.png'
    """
    return f"{task_prefix(task_id)}out/{fence}/{name}"


def part_key(task_id: UUID, fence: int, name: str) -> str:
    """Return where a file goes that workers share while one of them runs the task.

    >>> part_key(UUID(int=7), 2, "0/points")
    'tasks/00000000-0000-0000-0000-000000000007/parts/2/0/points'
    """
    return f"{task_prefix(task_id)}parts/{fence}/{name}"


def check_key(key: str) -> None:
    """Refuse what is no key in every store, so that what works in one works in all.

    >>> check_key("tasks/7/out/1/hulls/a b.png")

    Raises:
        ValueError: If it could leave a folder, is empty or too long, or holds what cannot be written down.
    """
    if any(part in {"", ".", ".."} for part in key.split("/")):
        raise ValueError(f"{key[:200]!r} is not a key: it leaves the store or is malformed")
    if any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in key):
        raise ValueError(f"{key[:200]!r} is not a key: it holds control characters or halves of characters")
    if len(key.encode()) > _LONGEST or any(len(part.encode()) > _LONGEST_PART for part in key.split("/")):
        raise ValueError(f"a key of {len(key)} characters is too long")


def base_name(filename: str) -> str:
    """Return a name that is safe as the last part of a path, which is all that others may choose.

    >>> base_name("../../etc/a.laz"), base_name("a/..")
    ('a.laz', '')
    """
    name = PurePosixPath(filename.replace("\\", "/")).name
    if name in {".", ".."} or not name.isprintable():
        return ""
    return name.encode(errors="ignore")[-200:].decode(errors="ignore")
