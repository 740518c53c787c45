"""Fetches the images of a request, some at a time, all within one budget of bytes and one deadline."""

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

from app.domain.errors import UrlRefused
from app.services.images.errors import ImagesInvalid, ImageTooLarge, ImageUnavailable, ImageUrlRefused
from app.services.images.parts import Fetcher, ImageLimits, Until
from app.services.images.schemas import SourceImage

_HANDS = 6  # images at a time


class _TooMuch(Exception):
    """The images of a request have more bytes than all of them may."""


class _Share:
    """What is left of the bytes that a request's images may have together."""

    def __init__(self, total: int) -> None:
        self._left = total
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Count bytes that came.

        Raises:
            _TooMuch: If they are more than are left.
        """
        with self._lock:
            self._left -= size
            if self._left < 0:
                raise _TooMuch


class _Counted(FileIO):
    """A file whose bytes come out of a share."""

    def __init__(self, path: Path, share: _Share) -> None:
        super().__init__(path, "xb")
        self._share = share

    def write(self, data: Any, /) -> int:
        """Write, if there is a share left."""
        self._share.take(len(data))
        return super().write(data)


def fetch_all(
    fetcher: Fetcher, images: Sequence[SourceImage], folder: Path, limits: ImageLimits, until: Until
) -> list[Path]:
    """Fetch every image into a file of its own; return the paths in the images' order.

    Args:
        fetcher: Who fetches.
        images: What.
        folder: Where to.
        limits: Of bytes and time.
        until: When all must be there.

    Raises:
        ImagesInvalid: What is wrong with the first one that cannot be had; the rest is given up.
        Stopped: If the request is to be given up.
    """
    share = _Share(limits.total_bytes)
    paths = [folder / f"{number}.image" for number in range(len(images))]
    fetch = partial(_fetch, fetcher, share=share, limits=limits, until=until)
    with ThreadPoolExecutor(_HANDS, thread_name_prefix="image") as pool:
        coming = [pool.submit(fetch, image, path) for image, path in zip(images, paths, strict=True)]
        wait(coming, return_when=FIRST_EXCEPTION)
        pool.shutdown(cancel_futures=True)
    for each in coming:
        if not each.cancelled():
            each.result()
    return paths


def _fetch(
    fetcher: Fetcher, image: SourceImage, path: Path, *, share: _Share, limits: ImageLimits, until: Until
) -> None:
    if not (left_s := until.left_s()):
        raise ImageUnavailable(image.id, "The time for all images of the request was over.")
    try:
        with _Counted(path, share) as into:
            fetcher.fetch(image.url, into, max_bytes=limits.total_bytes, total_s=min(left_s, limits.fetch_s))
    except UrlRefused as error:
        raise ImageUrlRefused(image.id, error) from None
    except _TooMuch:
        raise _too_large(image, limits) from None
    except OSError as error:
        if getattr(error, "reason", "") == "too_large":
            raise _too_large(image, limits) from None
        raise ImageUnavailable(image.id, str(error)) from None


def _too_large(image: SourceImage, limits: ImageLimits) -> ImagesInvalid:
    return ImageTooLarge(
        f"With image {image.id!r} the request's images have more than the {limits.total_bytes} bytes allowed.",
        "Send smaller or fewer images, or raise VOLCAL_IMAGE_MAX_BYTES.",
        image=image.id,
        limit=limits.total_bytes,
    )
