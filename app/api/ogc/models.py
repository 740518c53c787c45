"""Bodies of the standard's requests, and examples of its answers."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_URL = Annotated[str, Field(max_length=2048)]
_JOB = "0b9f6c0e-5d0c-4d0f-9a39-6a1d5d0a7c11"


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")


class FormatIn(_Body):
    """A format."""

    mediaType: str | None = Field(default=None, max_length=200)  # noqa: N815  (the standard's name)


class OutputIn(_Body):
    """How one output is wanted."""

    transmissionMode: Literal["value", "reference"] = Field(  # noqa: N815
        default="value", description="The output itself, or a link to it."
    )
    format: FormatIn | None = Field(default=None, description="Must be the one that the process describes.")


class SubscriberIn(_Body):
    """Who is told by a POST; docs/ogc.md says of what."""

    successUri: _URL | None = Field(default=None, description="Told when the job succeeded.")  # noqa: N815
    inProgressUri: _URL | None = Field(default=None, description="Told when the job begins to run.")  # noqa: N815
    failedUri: _URL | None = Field(default=None, description="Told when it failed or was dismissed.")  # noqa: N815


class ExecuteIn(_Body):
    """What to run, and how the answer is wanted: ``execute.yaml`` of the standard."""

    inputs: dict[str, Any] = Field(
        default_factory=dict,
        description="By name: a value, a value with its format, or for files a link with `href` and `type`.",
    )
    outputs: dict[str, OutputIn] = Field(default_factory=dict, description="Those that are wanted; none means all.")
    response: Literal["raw", "document"] = Field(
        default="raw", description="The outputs as they are, or one JSON document with all of them."
    )
    subscriber: SubscriberIn | None = None
    model_config = ConfigDict(
        extra="forbid",  # a misspelt ``inputs`` must not run with defaults
        json_schema_extra={
            "examples": [
                {
                    "inputs": {
                        "pre": {"href": "https://example.com/2015.laz", "type": "application/vnd.laszip"},
                        "post": {"href": "https://example.com/2023.laz", "type": "application/vnd.laszip"},
                        "shp": {"href": "https://example.com/stable.shp"},
                        "shx": {"href": "https://example.com/stable.shx"},
                        "min_score": 0.5,
                    },
                    "outputs": {"totals": {}, "hulls": {"transmissionMode": "reference"}},
                    "response": "document",
                }
            ]
        },
    )

    def asked(self) -> dict[str, Any]:
        """Return it as the use case takes it."""
        subscriber = {} if self.subscriber is None else self.subscriber.model_dump(exclude_none=True)
        outputs = {label: wanted.model_dump() for label, wanted in self.outputs.items()}
        return {"inputs": self.inputs, "outputs": outputs, "response": self.response, "subscriber": subscriber}


STATUS = {
    "jobID": _JOB,
    "processID": "volume_change",
    "type": "process",
    "status": "running",
    "message": "comparing",
    "created": "2026-05-01T12:00:00+00:00",
    "started": "2026-05-01T12:00:04+00:00",
    "updated": "2026-05-01T12:00:04+00:00",
    "progress": 40,
    "links": [{"href": f"http://127.0.0.1:8000/ogc/jobs/{_JOB}", "rel": "self", "type": "application/json"}],
}
RESULTS = {
    "totals": {"value": {"cut_volume": 12.1, "fill_volume": 80.4, "net_volume": 68.3}, "mediaType": "application/json"},
    "hulls": {"href": "http://127.0.0.1:8000/objects/tasks/…/hulls.geojson?…", "type": "application/geo+json"},
}


def shown(status: int, meaning: str, example: Any, kind: str = "application/json") -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route for one status."""
    content = {kind: {"schema": {"type": "object"}, "example": example}}
    return {status: {"description": meaning, "content": content}}
