"""/ogc: what this service is, which parts of the standard it keeps, and which processes it has."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from app.api.deps import ContextDep
from app.api.ogc.definition import definition
from app.api.ogc.describe import description, summary
from app.api.ogc.models import shown
from app.api.problems import examples
from app.context import Context
from app.domain import errors
from app.services import tasks
from app.services.ogc.links import OPENAPI, PREFIX, REL, header, href, link

router = APIRouter(prefix=PREFIX, tags=["ogc"])

_CONF = "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/"
CLASSES = tuple(
    f"{_CONF}{name}" for name in ("core", "json", "oas30", "ogc-process-description", "job-list", "callback", "dismiss")
)
NO_PROCESS = errors.PipelineNotFound("x", ["constant", "volume_change"])


def answer(content: dict[str, Any]) -> JSONResponse:
    """Answer with a document, and with its links as headers too."""
    response = JSONResponse(content)
    for each in content.get("links", ()):
        response.headers.append("Link", header(each["href"], f'"{each["rel"]}"', each["type"]))
    return response


@router.get("", include_in_schema=False)
@router.get(
    "/",
    summary="Landing page",
    response_class=JSONResponse,
    responses=shown(200, "Where everything is.", {"title": "Volcal", "links": []}),
)
def landing(context: ContextDep) -> JSONResponse:
    """Say where everything of OGC API - Processes is."""
    docs = {"href": f"{context.policy.public_url}/docs", "rel": "service-doc", "type": "text/html", "title": "The API"}
    links = [
        link(context, "/", "self", "This page"),
        link(context, "/api", "service-desc", "The API, for programs", OPENAPI),
        docs,
        link(context, "/conformance", f"{REL}conformance", "What of the standard is kept"),
        link(context, "/processes", f"{REL}processes", "Processes"),
        link(context, "/jobs", f"{REL}job-list", "Jobs"),
    ]
    return answer({"title": "Volcal", "description": "How much ground moved between two surveys.", "links": links})


@router.get(
    "/conformance",
    summary="Conformance classes",
    response_class=JSONResponse,
    responses=shown(200, "The classes.", {"conformsTo": list(CLASSES)}),
)
def conformance() -> dict[str, Any]:
    """List the parts of OGC API - Processes 1.0 that are kept."""
    return {"conformsTo": list(CLASSES)}


@router.get(
    "/api",
    summary="This part of the API as OpenAPI 3.0",
    response_class=Response,
    responses=shown(200, "The definition.", {"openapi": "3.0.3"}, OPENAPI),
)
def api(request: Request, context: ContextDep) -> JSONResponse:
    """Return the definition of everything below /ogc, in the version of OpenAPI that the standard names."""
    return JSONResponse(definition(request.app.openapi(), href(context, "")), media_type=OPENAPI)


@router.get(
    "/processes",
    summary="List processes",
    response_class=JSONResponse,
    responses={
        **examples(instance=f"{PREFIX}/processes"),
        **shown(200, "Some processes.", {"processes": [], "links": []}),
    },
)
def processes(
    context: ContextDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
    offset: Annotated[int, Query(ge=0, le=10**6, description="How many to pass over, as a ``next`` link says.")] = 0,
) -> JSONResponse:
    """List what can be run, by name."""
    names = sorted(context.catalogue)
    found = [summary(context, context.catalogue[name]) for name in names[offset : offset + limit]]
    links = [link(context, f"/processes?limit={limit}&offset={offset}", "self", "This page")]
    if offset + limit < len(names):
        links.append(link(context, f"/processes?limit={limit}&offset={offset + limit}", "next", "The next page"))
    return answer({"processes": found, "links": links})


@router.get(
    "/processes/{process_id}",
    summary="Describe a process",
    response_class=JSONResponse,
    responses={
        **examples(NO_PROCESS, instance=f"{PREFIX}/processes/x"),
        **shown(200, "The process.", {"id": "volume_change", "version": "0.1.0", "inputs": {}, "outputs": {}}),
    },
)
def process(process_id: str, context: ContextDep) -> JSONResponse:
    """Describe a process: what goes in, which options there are, and what comes out."""
    return answer(_described(context, process_id))


def _described(context: Context, process_id: str) -> dict[str, Any]:
    return description(context, tasks.find_spec(context.catalogue, process_id))
