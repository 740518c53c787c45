"""Numbers and times of JSON bodies, taken as strictly as their schemas say: ``false`` is not 0, and 0 is no time."""

from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator


def _number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("Input should be a whole number")
    return value


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("Input should be a time such as 2026-05-01T12:00:00Z")
    return value


NUMBER = BeforeValidator(_number)
"""For ``Annotated[int, Field(…), NUMBER]``: a whole number, 5.0 included, as JSON schema counts them."""

Moment = Annotated[AwareDatetime, BeforeValidator(_text)]
"""A time with its zone, as RFC 3339 writes it."""
