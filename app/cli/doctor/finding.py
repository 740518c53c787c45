"""What one look of the doctor found."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found.

    Args:
        good: Whether nothing needs to be done.
        said: What was found.
        remedy: What to do about it.
        fatal: Whether the service cannot work because of it.
    """

    good: bool
    said: str
    remedy: str = ""
    fatal: bool = True


def note(said: str, remedy: str) -> Finding:
    """Return a finding that may be left as it is."""
    return Finding(good=False, said=said, remedy=remedy, fatal=False)
