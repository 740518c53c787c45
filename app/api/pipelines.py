"""The catalogue at /api/v1/pipelines: what can be run, with which files and options."""

from fastapi import APIRouter

from app.api.deps import ContextDep
from app.api.problems import examples
from app.api.schemas import PipelineList, PipelineOut
from app.domain.errors import PipelineNotFound
from app.services.tasks import find_spec

router = APIRouter(prefix="/api/v1/pipelines", tags=["pipelines"])


@router.get("", summary="List pipelines")
def index(context: ContextDep) -> PipelineList:
    """List every pipeline with its inputs and the JSON schema of its options."""
    return PipelineList(pipelines=[PipelineOut.of(spec) for spec in context.catalogue.values()])


@router.get("/{name}", summary="Look at a pipeline", responses=examples(PipelineNotFound("x", ["volume_change"])))
def show(name: str, context: ContextDep) -> PipelineOut:
    """Show a pipeline's inputs and the JSON schema of its options."""
    return PipelineOut.of(find_spec(context.catalogue, name))
