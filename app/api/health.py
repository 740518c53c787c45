"""The root, whether the service lives and is ready, its queues and its figures."""

import hmac
from datetime import datetime
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel, Field

from app.api.deps import ContextDep, ReadDep
from app.observe import queues
from app.observe.watch import Watch

router = APIRouter()

_BEARER = {"WWW-Authenticate": "Bearer"}


async def _watch(request: Request, context: ContextDep) -> Watch:
    state = request.app.state
    if getattr(state, "watch", None) is None:
        state.watch = Watch(context)
    found: Watch = state.watch
    return found


WatchDep = Annotated[Watch, Depends(_watch)]


@router.get("/", include_in_schema=False)
def root(request: Request) -> Response:
    """Lead people to the documentation, and tell machines who this is."""
    accepted = [part.split(";")[0].strip() for part in request.headers.get("accept", "").split(",")]
    if accepted == ["application/json"]:
        return JSONResponse({"service": "volcal", "status": "running", "version": version("volcal-server")})
    return RedirectResponse("/docs")


class Alive(BaseModel):
    """The process answers."""

    status: bool = Field(examples=[True])


class Ready(BaseModel):
    """Whether the service can do its work."""

    status: list[str] = Field(
        description="The pipelines that can be run, those for images among them; empty if none.",
        examples=[["constant", "random", "volume_change"]],
    )
    images: list[str] = Field(
        description="Those of them that `POST /process` takes.", examples=[["constant", "random"]]
    )
    problems: list[str] = Field(description="Why it cannot, for operators.", examples=[[]])
    degraded: list[str] = Field(
        description="What limps: what is sent is kept, and run later.",
        examples=[["the broker does not answer (ConnectionRefusedError): tasks are kept, and run once it does"]],
    )


class QueueOut(BaseModel):
    """A queue as clients see it."""

    name: str = Field(examples=["model-prediction"])
    pipelines: list[str] = Field(description="Those with a step that waits here.", examples=[["relay"]])
    pending: int = Field(description="Tasks that wait for a worker, everybody's.", examples=[3])
    running: int = Field(description="Tasks whose step runs.", examples=[1])
    workers: int = Field(description="Workers that listen and were seen in the last minute.", examples=[2])
    oldest: datetime | None = Field(description="Since when the first has waited; null if none does.")


class QueueList(BaseModel):
    """Every queue there is."""

    queues: list[QueueOut]


@router.get("/livez", tags=["health"], summary="Whether the process lives")
async def livez() -> Alive:  # in no thread: all of them may wait for a database that stands still
    """Answer; nothing else is looked at, so a broken database does not make anyone restart the process."""
    return Alive(status=True)


@router.get(
    "/readyz",
    tags=["health"],
    summary="Whether the service can do its work",
    responses={503: {"model": Ready, "description": "It cannot; ``problems`` says why."}},
)
async def readyz(watch: WatchDep, context: ContextDep, response: Response) -> Ready:
    """Look at the database and its tables, the object store, the upload endpoint, the disk and the broker.

    Takes no longer than three seconds, and looks anew at most every second and a half. A broker that is away, a missing
    worker or reaper make nobody unready: what is sent is kept, and run later. Without any pipeline there is nothing to
    be ready for.
    """
    health = await to_thread.run_sync(watch.health, limiter=CapacityLimiter(1))  # beside the common threads
    images = [] if health.problems else sorted(context.images.pipelines)
    status = [] if health.problems else sorted({*watch.pipelines, *images})
    if not status:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Ready(status=status, images=images, problems=health.problems, degraded=health.degraded)


@router.get("/api/v1/queues", tags=["queues"], summary="List queues")
def list_queues(work: ReadDep, context: ContextDep) -> QueueList:
    """List every queue with how many tasks wait in it and how many workers listen to it."""
    found = queues.look(work, context.catalogue)
    return QueueList(queues=[QueueOut.model_validate(queue, from_attributes=True) for queue in found])


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request, context: ContextDep, watch: WatchDep) -> Response:
    """Tell Prometheus every figure; with a token if the deployment chose one."""
    token = context.policy.metrics_token
    given = request.headers.get("authorization", "").encode("utf-8", "replace")
    if token and not hmac.compare_digest(given, f"Bearer {token}".encode()):
        raise HTTPException(HTTPStatus.UNAUTHORIZED, "The metrics token is missing or wrong.", _BEARER)
    return Response(watch.metrics(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
