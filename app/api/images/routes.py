"""/info and /process: image pipelines for clients that wait for the answer."""

import time
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from app.api.deps import ContextDep, LookingDep
from app.api.problems import plain_of, status_of
from app.domain.errors import UrlRefused
from app.services.images import schemas
from app.services.images.errors import (
    ImagePipelineFailed,
    ImagePipelineUnknown,
    ImagesBusy,
    ImagesInvalid,
    ImageTooLarge,
    ImageUnavailable,
    ImageUnreadable,
    ImageUrlRefused,
)
from app.services.images.parts import Images
from app.services.images.process import process
from app.services.images.schemas import Info, ProcessRequest, ProcessResponse

_MOST_WAITING = 16


class ImagesRoute(APIRoute):
    """A route whose errors are ``{"detail": …, "code": …, "image": …}``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except ImagesInvalid as error:
                return JSONResponse(_plain(error), status_code=status_of(type(error)))

        return answer


router = APIRouter(tags=["images"], route_class=ImagesRoute)


def _plain(error: ImagesInvalid) -> dict[str, Any]:
    return {**plain_of(error), "image": error.image}


_WRONG: tuple[ImagesInvalid, ...] = (
    ImagePipelineUnknown("moths", ["random", "constant"]),
    ImageUrlRefused("trap-7/0412", UrlRefused("address")),
    ImageUnavailable("trap-7/0412", "The host answered 404."),
    ImageUnreadable(
        "Image 'trap-7/0412' cannot be used: It is damaged or cut off (image file is truncated).",
        "Export it again, and send it whole.",
        image="trap-7/0412",
    ),
    ImageTooLarge(
        "Image 'trap-7/0412' cannot be used: It has 30000 x 30000 pixels, more than the 50000000 that are allowed.",
        "Send a smaller version, or raise VOLCAL_IMAGE_MAX_PIXELS.",
        image="trap-7/0412",
    ),
    ImagePipelineFailed(
        "Image 'trap-7/0412' was not done when the time of the request was over.",
        "Send fewer or smaller images, or post them to the queue (api.tasks.process_pipeline).",
        image="trap-7/0412",
    ),
)
_MALFORMED = {
    "detail": "body.source_images.0.url: Field required",
    "problems": [{"field": "body.source_images.0.url", "message": "Field required"}],
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    422: {
        "description": "The request is malformed, the pipeline unknown, or an image cannot be had or read.",
        "content": {
            "application/json": {
                "examples": {
                    **{error.code: {"value": _plain(error)} for error in _WRONG},
                    "REQUEST_INVALID": {"value": _MALFORMED},
                }
            }
        },
    },
}


@router.get("/info", summary="Tell which image pipelines there are")
async def info(context: ContextDep) -> Info:
    """Tell which image pipelines there are, with their algorithms, classes, and what a config may choose."""
    return schemas.info_of(context.images.pipelines)


@router.post("/process", summary="Look at images and answer at once", responses=_ANSWERS)
async def look(request: ProcessRequest, context: ContextDep, looking: LookingDep) -> ProcessResponse:
    """Fetch each image by its URL, look at it, and answer what was found; the client waits, a minute at most.

    URLs lead to public hosts, or to those that the operator opened (`VOLCAL_FETCH_ALLOW`). JPEG, PNG, WebP, GIF and
    TIFF are taken. If one image cannot be used none is: the answer names it. Nothing is kept. The same image gives the
    same answer.
    """
    if looking.waiting >= _MOST_WAITING:
        raise ImagesBusy(looking.waiting)
    return await looking.run(_in_time, context.images, request, time.monotonic())


def _in_time(images: Images, request: ProcessRequest, asked_at: float) -> ProcessResponse:
    """Answer within the time that a client waits, of which some may have gone by in the line."""
    left_s = asked_at + images.limits.total_s - time.monotonic()
    if left_s <= 0:
        raise ImagesBusy(_MOST_WAITING)
    return process(images, request, seconds=left_s)
