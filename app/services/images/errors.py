"""What can be wrong with a request to an image pipeline. All of them are 422, as clients of this kind expect.

Invalid
└── ImagesInvalid
    ├── ImagePipelineUnknown
    ├── ImagesTooMany
    ├── ImageUrlRefused
    ├── ImageUnavailable
    ├── ImageTooLarge
    ├── ImageUnreadable
    └── ImagePipelineFailed
TooMany
└── ImagesBusy
"""

from collections.abc import Iterable
from typing import Any

from app.domain.errors import Invalid, TooMany, UrlRefused


class ImagesInvalid(Invalid):
    """A request to an image pipeline cannot be answered.

    Args:
        message: One sentence: what is wrong, naming the image.
        remedy: One sentence: what can be done about it.
        image: The image's id, if it is about one.
    """

    def __init__(self, message: str, remedy: str, *, image: str | None = None, **facts: Any) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.image = image
        self.facts = facts

    def extensions(self) -> dict[str, Any]:
        """Name the image, and what can be done."""
        return {"image": self.image, "remedy": self.remedy, **self.facts}


class ImagePipelineUnknown(ImagesInvalid):
    """There is no such image pipeline."""

    code = "IMAGE_PIPELINE_UNKNOWN"

    def __init__(self, slug: str, known: Iterable[str]) -> None:
        super().__init__(f"There is no image pipeline {slug[:100]!r}.", f"Choose one of: {', '.join(known)}.")


class ImagesTooMany(ImagesInvalid):
    """The request names more images than are allowed at a time."""

    code = "IMAGES_TOO_MANY"

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(
            f"The request names {count} images; {limit} are allowed at a time.",
            "Send several requests, or raise VOLCAL_IMAGE_MAX_COUNT.",
            limit=limit,
        )


class ImageUrlRefused(ImagesInvalid):
    """The URL of an image is not one that this service may call."""

    code = "IMAGE_URL_REFUSED"

    def __init__(self, image: str, why: UrlRefused) -> None:
        super().__init__(
            f"Image {image!r} is not fetched: {why}",
            "Use a public http or https URL; who runs the service can open private ones (VOLCAL_FETCH_ALLOW).",
            image=image,
            reason=why.reason,
        )


class ImageUnavailable(ImagesInvalid):
    """An image cannot be fetched from its URL."""

    code = "IMAGE_UNAVAILABLE"

    def __init__(self, image: str, why: str) -> None:
        super().__init__(
            f"Image {image!r} cannot be fetched: {why}", "Check that its URL answers with the file.", image=image
        )


class ImageTooLarge(ImagesInvalid):
    """An image has more bytes or pixels than are allowed."""

    code = "IMAGE_TOO_LARGE"


class ImageUnreadable(ImagesInvalid):
    """A file is no image, of a kind that is not taken, damaged or cut off."""

    code = "IMAGE_UNREADABLE"


class ImagePipelineFailed(ImagesInvalid):
    """An image pipeline gave up on an image, or took too long."""

    code = "IMAGE_PIPELINE_FAILED"


class ImagesBusy(TooMany):
    """As many requests to image pipelines wait as may."""

    code = "IMAGES_BUSY"
    retry_s = 5.0

    def __init__(self, waiting: int) -> None:
        super().__init__(
            f"{waiting} requests to image pipelines wait already.",
            "Try again in some seconds; or post them to the queue (api.tasks.process_pipeline).",
        )
