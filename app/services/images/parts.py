"""What image pipelines need of the outside."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from pipeline.images import PIPELINES
from pipeline.images.contracts import ImagePipeline


class Stopped(Exception):
    """Whoever looks at the images was asked to stop; the request is as it was."""


class Fetcher(Protocol):
    """Fetches what users name by URL, without letting them use our place in the network."""

    def fetch(self, url: str, into: BinaryIO, *, max_bytes: int, total_s: float) -> None:
        """Write what a URL has into a stream.

        Raises:
            UrlRefused: If the URL, or one that it redirects to, may not be called.
            OSError: If it has nothing, or not within the limits; the message says why in one line, and its ``reason``
                is ``too_large`` if it has more.
        """


@dataclass(frozen=True, slots=True)
class Until:
    """How long a request may go on.

    Args:
        deadline: When it is over, by the monotonic clock.
        stopping: Whether it is to be given up before.
    """

    deadline: float
    stopping: Callable[[], bool] = lambda: False

    def left_s(self) -> float:
        """Return for how long it may go on, seconds; 0 if its time is over.

        Raises:
            Stopped: If it is to be given up.
        """
        if self.stopping():
            raise Stopped
        return max(0.0, self.deadline - time.monotonic())


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What one request may ask for.

    Args:
        count: Images.
        total_bytes: Of all its images together, as they are fetched.
        pixels: Of one image.
        fetch_s: Seconds that fetching one image may take.
        total_s: Seconds that a request may take whose client waits for the answer.
    """

    count: int = 100
    total_bytes: int = 64 << 20
    pixels: int = 50_000_000
    fetch_s: float = 20.0
    total_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Images:
    """Image pipelines and what they need.

    Args:
        fetcher: Fetches images.
        pipelines: Every one there is, by slug.
        limits: What one request may ask for.
    """

    fetcher: Fetcher
    pipelines: Mapping[str, ImagePipeline] = field(default_factory=lambda: PIPELINES)
    limits: ImageLimits = ImageLimits()
