"""Answers a request to an image pipeline: by HTTP while the client waits, by the queue otherwise."""

import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.domain.errors import OptionsInvalid
from app.services.images import sandbox
from app.services.images.errors import (
    ImagePipelineFailed,
    ImagePipelineUnknown,
    ImagesInvalid,
    ImagesTooMany,
    ImageTooLarge,
    ImageUnreadable,
)
from app.services.images.fetching import fetch_all
from app.services.images.parts import Images, Until
from app.services.images.sandbox import Report
from app.services.images.schemas import DetectionOut, ProcessRequest, ProcessResponse, algorithm_of
from pipeline.errors import InputInvalid, InputTooLarge, OutOfMemory
from pipeline.images.contracts import ImagePipeline

log = logging.getLogger(__name__)

_KINDS: dict[str, type[ImagesInvalid]] = {
    InputInvalid.code: ImageUnreadable,
    InputTooLarge.code: ImageTooLarge,
    OutOfMemory.code: ImageTooLarge,
}


def process(
    images: Images,
    request: ProcessRequest,
    *,
    seconds: float | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> ProcessResponse:
    """Fetch the images of a request, look at each, and return what was found.

    Args:
        images: The pipelines, and what they need.
        request: What to do.
        seconds: Longest time, fetching included; None is that of a client that waits.
        stopping: Whether to give up, since the process is to end.

    Raises:
        ImagesInvalid: If it cannot be done; names the image and what to do about it.
        OptionsInvalid: If the config does not fit the pipeline.
        Stopped: If it was asked to stop meanwhile.
    """
    began = time.monotonic()
    deadline = began + (images.limits.total_s if seconds is None else seconds)
    pipeline, config = check(images, request)
    detections: list[DetectionOut] = []
    if request.source_images:
        with tempfile.TemporaryDirectory(prefix="volcal-images-", ignore_cleanup_errors=True) as folder:
            place = Path(folder)
            until = Until(deadline, stopping)
            paths = fetch_all(images.fetcher, request.source_images, place, images.limits, until)
            job = {
                "pipeline": pipeline.slug,
                "config": config,
                "max_pixels": images.limits.pixels,
                "images": _listed(request, paths),
            }
            report = sandbox.run(job, place, until)
        detections = _found(request, report)
    seconds_taken = time.monotonic() - began
    log.info(
        "images processed",
        extra={"pipeline": pipeline.slug, "images": len(request.source_images), "seconds": round(seconds_taken, 3)},
    )
    return ProcessResponse(
        pipeline=pipeline.slug,
        total_time=round(seconds_taken, 6),
        source_images=list(request.source_images),
        detections=detections,
        algorithms={each.key: algorithm_of(each) for each in pipeline.algorithms},
    )


def check(images: Images, request: ProcessRequest) -> tuple[ImagePipeline, dict[str, Any]]:
    """Return the pipeline that a request asks for, and its config.

    Raises:
        ImagesInvalid: If there is no such pipeline, or the request is too large.
        OptionsInvalid: If the config does not fit the pipeline.
    """
    pipeline = images.pipelines.get(request.pipeline)
    if pipeline is None:
        raise ImagePipelineUnknown(request.pipeline, images.pipelines)
    if len(request.source_images) > images.limits.count:
        raise ImagesTooMany(len(request.source_images), images.limits.count)
    try:
        config = pipeline.config.model_validate(request.config)
    except ValidationError as error:
        problems = [
            {"field": ".".join(["config", *map(str, each["loc"])]), "message": each["msg"]} for each in error.errors()
        ]
        raise OptionsInvalid(problems) from None
    return pipeline, config.model_dump(mode="json")


def _listed(request: ProcessRequest, paths: Sequence[Path]) -> list[dict[str, Any]]:
    listed = []
    for image, path in zip(request.source_images, paths, strict=True):
        given = None
        if request.detections is not None:
            given = [
                each.model_dump(mode="json", exclude={"source_image"})
                for each in request.detections
                if each.source_image.id == image.id
            ]
        listed.append({"id": image.id, "path": str(path), "given": given})
    return listed


def _found(request: ProcessRequest, report: Report) -> list[DetectionOut]:
    if report.how is not None or len(report.found) != len(request.source_images):
        raise _failure(request, report)
    try:
        return [DetectionOut.model_validate(each) for found in report.found for each in found]
    except ValidationError as error:
        log.error("an image pipeline's answer has another form than agreed: %s", error)
        raise ImagePipelineFailed("The pipeline's answer cannot be used.", _REPORT) from None


_REPORT = "This is a defect; please report it with the service's log."


def _failure(request: ProcessRequest, report: Report) -> ImagesInvalid:
    """Return why there is no answer, as far as the process could say."""
    count = len(request.source_images)
    image = request.source_images[report.at].id if report.at is not None and 0 <= report.at < count else None
    name = "The pipeline" if image is None else f"Image {image!r}"
    error = report.error
    if error is not None and (kind := _KINDS.get(str(error.get("code")))) is not None:
        message, remedy = str(error.get("message"))[:500], str(error.get("remedy"))[:300]
        return kind(f"{name} cannot be used: {message}", remedy, image=image)
    if report.how == "timeout":
        return ImagePipelineFailed(
            f"{name} was not done when the time of the request was over.",
            "Send fewer or smaller images, or post them to the queue (api.tasks.process_pipeline).",
            image=image,
        )
    if error is None and image is not None:  # it ended without a word while it was at an image
        return ImageUnreadable(
            f"{name} cannot be used: it ended the process that looked at it ({report.how}).",
            "It may be damaged, or too large: export it again, smaller.",
            image=image,
        )
    return ImagePipelineFailed(f"{name} could not be processed.", _REPORT, image=image)
