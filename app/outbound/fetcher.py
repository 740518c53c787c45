"""The guarded client as those see it who fetch a file and say how large and how slow it may be."""

from dataclasses import replace
from typing import BinaryIO

from app.outbound.budget import Limits
from app.outbound.client import GuardedClient


class BoundedFetcher:
    """Fetches files that users name by URL.

    Args:
        client: Decides what may be called.
        limits: Whatever a call does not say.
    """

    def __init__(self, client: GuardedClient, limits: Limits | None = None) -> None:
        self._client = client
        self._limits = limits or Limits()

    def fetch(self, url: str, into: BinaryIO, *, max_bytes: int, total_s: float) -> None:
        """Write what a URL has into a stream.

        Raises:
            UrlRefused: If the URL, or one that it redirects to, may not be called.
            FetchFailed: If it has nothing, or not within the limits; something may have been written already.
        """
        self._client.fetch(url, into, limits=replace(self._limits, max_bytes=max_bytes, total_s=total_s))
