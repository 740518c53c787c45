"""What a client prefers (RFC 7240): an answer at once, or the result after a while."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preference:
    """How long to wait for the result before a job is answered instead.

    Args:
        wait_s: Seconds; infinite if the client says nothing.
        asked: What it said of that, as ``Preference-Applied`` repeats it.
    """

    wait_s: float = math.inf
    asked: tuple[str, ...] = ()


def read(header: str) -> Preference:
    """Read a ``Prefer`` header; what is not known or makes no sense is passed over, as the RFC asks.

    >>> read("respond-async").wait_s
    0.0
    >>> read("respond-async, wait=10"), read("handling=lenient").asked
    (Preference(wait_s=10.0, asked=('respond-async', 'wait=10')), ())
    """
    said: dict[str, str] = {}
    for part in header.split(","):
        name, _, value = part.partition(";")[0].partition("=")
        said.setdefault(name.strip().lower(), value.strip().strip('"'))
    digits = said.get("wait", "")
    wait = float(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 9 else None
    asked = [name for name in ("respond-async", "respond-sync") if name in said]
    if wait is not None:
        return Preference(wait, (*asked, f"wait={digits}"))
    return Preference(0.0 if "respond-async" in said else math.inf, tuple(asked))


def applied(preference: Preference, *, is_job: bool, patience: float) -> dict[str, str]:
    """Return the header that says which preferences were met.

    Args:
        preference: What was asked.
        is_job: Whether a job was answered, not a result.
        patience: For how many seconds the result would have been waited for.

    >>> applied(read("respond-async, wait=600"), is_job=True, patience=60)
    {'Preference-Applied': 'respond-async'}
    """
    is_short = is_job and patience < preference.wait_s
    met = [
        each
        for each in preference.asked
        if each != ("respond-sync" if is_job else "respond-async") and not (is_short and each.startswith("wait="))
    ]
    return {"Preference-Applied": ", ".join(met)} if met else {}
