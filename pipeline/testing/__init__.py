"""Pipelines that cost nothing: they try out the machinery around a run."""

from typing import Literal

from pydantic import BaseModel, Field

from pipeline.contracts import InputSlot, Spec


class ConstantParams(BaseModel, frozen=True, extra="forbid"):
    """How the constant pipeline behaves."""

    seconds: float = Field(default=0.0, ge=0, le=3600, description="How long to take.")
    fail: Literal["", "error", "defect", "exit", "hang", "memory", "disk", "spawn", "noise"] = Field(
        default="", description="How to misbehave: for trying out supervision."
    )


CONSTANT = Spec(
    name="constant",
    title="Constant: takes one file and always answers the same",
    inputs=(InputSlot("file", "Any file", ("",)),),
    params=ConstantParams,
    runner="pipeline.testing.run:run",
)
