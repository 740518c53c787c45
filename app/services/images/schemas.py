"""Requests to image pipelines and their answers, by HTTP and by the queue alike."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.images.contracts import Algorithm, ImagePipeline

Coordinate = Annotated[float, Field(allow_inf_nan=False)]
_MOST = 10_000  # of whatever a request lists; what it may really hold, settings say

_ID = "trap-7/0412"
_EXAMPLE: dict[str, Any] = {
    "pipeline": "random",
    "source_images": [{"id": _ID, "url": "https://images.example.com/trap-7/0412.jpg"}],
    "config": {},
}


class SourceImage(BaseModel):
    """An image and where it is."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(
        min_length=1, max_length=500, description="The client's; answers and errors name it.", examples=[_ID]
    )
    url: str = Field(
        min_length=1,
        max_length=4096,
        description="http or https; fetched once, redirects followed.",
        examples=["https://images.example.com/trap-7/0412.jpg"],
    )


class BoundingBox(BaseModel):
    """A rectangle in an image, pixels from its upper left corner."""

    model_config = ConfigDict(frozen=True)

    x1: Coordinate = Field(examples=[120.0])
    y1: Coordinate = Field(examples=[80.0])
    x2: Coordinate = Field(examples=[360.0])
    y2: Coordinate = Field(examples=[240.0])


class AlgorithmReference(BaseModel):
    """An algorithm by its name and key."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(max_length=200, examples=["Constant detector"])
    key: str = Field(max_length=200, examples=["constant-detector"])


class KnownDetection(BaseModel):
    """Something that the client found already, so that a pipeline names it rather than looks for it."""

    model_config = ConfigDict(frozen=True)

    source_image: SourceImage
    bbox: BoundingBox
    algorithm: AlgorithmReference
    crop_image_url: str | None = Field(default=None, max_length=4096, description="Given back as it came.")


class ProcessRequest(BaseModel):
    """What to look for, in which images."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={"examples": [_EXAMPLE]},
    )

    pipeline: str = Field(max_length=200, description="Slug of a pipeline of `GET /info`.")
    source_images: tuple[SourceImage, ...] = Field(max_length=_MOST)
    detections: tuple[KnownDetection, ...] | None = Field(
        default=None, max_length=_MOST, description="What the client found already; pipelines may ignore it."
    )
    config: dict[str, Any] = Field(
        default_factory=dict, description="Of the pipeline; keys that it does not know are ignored."
    )

    @model_validator(mode="before")
    @classmethod
    def _no_config_is_an_empty_one(cls, body: Any) -> Any:
        return {**body, "config": {}} if isinstance(body, dict) and body.get("config", 0) is None else body

    @model_validator(mode="after")
    def _names_each_image_once(self) -> Self:
        known = {image.id for image in self.source_images}
        if len(known) < len(self.source_images):
            raise ValueError("two images have the same id")
        strange = [each.source_image.id for each in self.detections or () if each.source_image.id not in known]
        if strange:
            raise ValueError(f"a detection is of the image {strange[0][:100]!r}, which is not among source_images")
        return self


class ClassificationOut(BaseModel):
    """What something was taken for."""

    classification: str = Field(examples=["Moth"])
    labels: list[str] | None = Field(default=None, description="In the order of the scores.", examples=[["Moth"]])
    scores: list[float] = Field(description="A probability for each label.", examples=[[0.9]])
    logits: list[float] = Field(default_factory=list, description="The same before it was made one.", examples=[[]])
    algorithm: AlgorithmReference
    terminal: bool = Field(default=True, description="Whether this is the last word.")
    timestamp: datetime


class DetectionOut(BaseModel):
    """Something in an image."""

    source_image_id: str = Field(examples=[_ID])
    bbox: BoundingBox
    inference_time: float | None = Field(default=None, description="Seconds spent on the image.")
    algorithm: AlgorithmReference
    timestamp: datetime
    crop_image_url: str | None = None
    classifications: list[ClassificationOut] = Field(default_factory=list)


class CategoryMap(BaseModel):
    """The classes of an algorithm."""

    data: list[dict[str, Any]] = Field(examples=[[{"index": 0, "label": "Moth"}]])
    labels: list[str] = Field(description="In the order of the scores.", examples=[["Moth"]])
    version: str | None = None
    description: str | None = None
    uri: str | None = None


class AlgorithmOut(BaseModel):
    """An algorithm in full."""

    name: str = Field(examples=["Constant detector"])
    key: str = Field(examples=["constant-detector"])
    description: str | None = None
    task_type: str | None = Field(default=None, examples=["detection"])
    version: int = 1
    version_name: str | None = Field(default=None, examples=["v1"])
    uri: str | None = None
    category_map: CategoryMap | None = None


class StageParameter(BaseModel):
    """Something that a config may choose."""

    name: str = Field(examples=["Count"])
    key: str = Field(examples=["count"])
    category: str = "default"


class Stage(BaseModel):
    """A part of a pipeline that a config may change."""

    key: str = Field(examples=["random"])
    name: str = Field(examples=["Random"])
    params: list[StageParameter]
    description: str | None = None


class PipelineOut(BaseModel):
    """An image pipeline."""

    name: str = Field(examples=["Random"])
    slug: str = Field(description="What requests call it.", examples=["random"])
    version: int = Field(examples=[1])
    description: str | None = Field(examples=["Boxes anywhere, of any class; the same image gives the same."])
    algorithms: list[AlgorithmOut]
    stages: list[Stage]


class Info(BaseModel):
    """The service and its image pipelines."""

    name: str = Field(examples=["Volcal"])
    description: str = Field(examples=["Finds and names what is in images that are given by URL."])
    pipelines: list[PipelineOut]


class ProcessResponse(BaseModel):
    """What was found."""

    pipeline: str = Field(examples=["random"])
    total_time: float = Field(description="Seconds, with fetching.", examples=[0.82])
    source_images: list[SourceImage]
    detections: list[DetectionOut]
    algorithms: dict[str, AlgorithmOut] = Field(description="All that may have had a say, by key.")


def algorithm_of(algorithm: Algorithm) -> AlgorithmOut:
    """Return an algorithm as answers show it."""
    data = [{"index": index, "label": label} for index, label in enumerate(algorithm.labels)]
    return AlgorithmOut(
        name=algorithm.name,
        key=algorithm.key,
        description=algorithm.description,
        task_type=algorithm.task_type,
        version=algorithm.version,
        version_name=f"v{algorithm.version}",
        uri=algorithm.uri,
        category_map=CategoryMap(data=data, labels=list(algorithm.labels)) if data else None,
    )


def pipeline_of(pipeline: ImagePipeline) -> PipelineOut:
    """Return a pipeline as ``/info`` shows it; its one stage has what a config may choose."""
    fields = pipeline.config.model_fields
    told = "; ".join(f"{key}: {field.description}" for key, field in fields.items())
    chosen = [StageParameter(name=key.replace("_", " ").capitalize(), key=key) for key in fields]
    return PipelineOut(
        name=pipeline.name,
        slug=pipeline.slug,
        version=pipeline.version,
        description=pipeline.description,
        algorithms=[algorithm_of(each) for each in pipeline.algorithms],
        stages=[Stage(key=pipeline.slug, name=pipeline.name, params=chosen, description=told)],
    )


def info_of(pipelines: Mapping[str, ImagePipeline]) -> Info:
    """Return what ``/info`` answers."""
    return Info(
        name="Volcal",
        description="Finds and names what is in images that are given by URL.",
        pipelines=[pipeline_of(each) for each in pipelines.values()],
    )
