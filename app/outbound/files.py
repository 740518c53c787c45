"""Files of the web, fetched so that a line which breaks costs no byte twice."""

import re
import time
from dataclasses import replace
from email.message import Message
from pathlib import Path
from typing import BinaryIO

from app.domain.fetching import FetchProblem, Known, Look
from app.outbound.budget import FetchFailed, Limits
from app.outbound.client import Answer, GuardedClient

_PASSING = {"timeout", "lookup", "connect", "tls", "protocol"}
_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
_LONGEST_WAIT_S = 600.0
_LONGEST_VALIDATOR = 512
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")
_LOOK_S = 0.25
_OK, _PARTIAL, _RANGE_WRONG = 200, 206, 416


class WebFiles:
    """A FileSource of http and https.

    Args:
        client: Calls what users name.
        limits: What one request may take; its ``max_bytes`` is the largest file.
    """

    def __init__(self, client: GuardedClient, limits: Limits) -> None:
        self._client = client
        self._limits = limits

    def check(self, url: str) -> str:
        """Return the URL in its one form.

        Raises:
            UrlRefused: If it is plainly not one that may be called.
        """
        return self._client.check(url)

    def fetch(self, url: str, target: Path, known: Known, look: Look) -> Known:
        """Fetch what is lacking: see ``FileSource``."""
        with target.open("ab") as stream:
            here = stream.tell()
            if known.length is not None and here == known.length:
                return replace(known, received=here)
            known = replace(known, received=here) if known.validator else _anew(stream, known)
            going_on = {"Range": f"bytes={known.received}-", "If-Range": known.validator}
            asked = going_on if known.received else {}
            try:
                with self._client.open("GET", url, headers=asked, limits=self._limits) as answer:
                    known = self._begin(answer, stream, known)
                    look(known)
                    return self._receive(answer, stream, known, look)
            except FetchFailed as error:
                raise FetchProblem(
                    error.reason,
                    str(error),
                    passing=error.reason in _PASSING,
                    code="UPLOAD_TOO_LARGE" if error.reason == "too_large" else "FETCH_FAILED",
                ) from None

    def _begin(self, answer: Answer, stream: BinaryIO, known: Known) -> Known:
        """Return what the head of an answer says; what is here and is not of the same file is dropped."""
        if answer.status == _PARTIAL and known.received:
            return self._go_on(answer, stream, known)
        if answer.status == _RANGE_WRONG and known.received:
            _anew(stream, known)
            raise FetchProblem("changed", "The file became shorter while it was fetched.", passing=True)
        if answer.status != _OK:
            raise _bad_status(answer)
        coded = answer.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}
        said = answer.headers.get("content-length", "")
        length = int(said) if said.isdecimal() and len(said) < 19 and not coded else None
        chunked = "chunked" in answer.headers.get("transfer-encoding", "").lower()
        if length is None and not coded and not chunked:
            raise FetchProblem("length", "The host does not say how long the file is: nobody can tell if it is whole.")
        self._check_size(length)
        known = _anew(stream, known)
        return replace(
            known,
            length=length,
            validator="" if coded else _validator(answer),
            filename=_named(answer) or known.filename,
        )

    def _go_on(self, answer: Answer, stream: BinaryIO, known: Known) -> Known:
        said = _RANGE.fullmatch(answer.headers.get("content-range", "").strip())
        length = None if said is None or said[2] == "*" else int(said[2])
        if said is None or int(said[1]) != known.received or (known.length is not None and length != known.length):
            _anew(stream, known)
            raise FetchProblem("changed", "Its host sent another part than was asked for.", passing=True)
        self._check_size(length)
        return replace(known, length=length)

    def _check_size(self, length: int | None) -> None:
        if length is not None and length > self._limits.max_bytes:
            raise FetchFailed("too_large", f"The file has {length} bytes; {self._limits.max_bytes} are allowed.")

    def _receive(self, answer: Answer, stream: BinaryIO, known: Known, look: Look) -> Known:
        here, looked = known.received, time.monotonic()
        for chunk in answer.chunks():
            here += len(chunk)
            if here > self._limits.max_bytes:
                raise FetchFailed("too_large", f"The file is larger than {self._limits.max_bytes} bytes.")
            stream.write(chunk)
            if (now := time.monotonic()) - looked >= _LOOK_S:
                stream.flush()
                look(replace(known, received=here))
                looked = now
        stream.flush()
        known = replace(known, received=here)
        if known.length is not None and here != known.length:
            raise FetchProblem("protocol", f"{here} bytes came of {known.length}.", passing=True)
        look(known)
        return known


def _anew(stream: BinaryIO, known: Known) -> Known:
    stream.truncate(0)
    return replace(known, received=0, length=None, validator="")


def _bad_status(answer: Answer) -> FetchProblem:
    passing = answer.status in _PASSING_STATUS
    said = answer.headers.get("retry-after", "")
    wait_s = min(float(said), _LONGEST_WAIT_S) if said.isdecimal() and len(said) < 9 else 0.0
    return FetchProblem("status", f"The host answered {answer.status}.", passing=passing, retry_s=wait_s)


def _validator(answer: Answer) -> str:
    """Return what ``If-Range`` may name: a strong ETag, or a date."""
    tag = answer.headers.get("etag", "")
    for word in (tag if tag.startswith('"') else "", answer.headers.get("last-modified", "")):
        if word and word.isascii() and len(word) <= _LONGEST_VALIDATOR:
            return word
    return ""


def _named(answer: Answer) -> str:
    """Return the name that the host gives to the file, if it does."""
    if (said := answer.headers.get("content-disposition")) is None:
        return ""
    message = Message()
    message["Content-Disposition"] = said
    return message.get_filename() or ""
