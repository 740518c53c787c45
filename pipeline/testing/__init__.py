"""Pipelines that cost nothing: they try out the machinery around a run."""

from typing import Literal

from pydantic import BaseModel, Field

from pipeline.contracts import InputSlot, OutputSlot, Spec, Step


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
    steps=(Step("run", "Answer", "pipeline.testing.run:run"),),
)


class SharedParams(BaseModel, frozen=True, extra="forbid"):
    """How the shared pipeline behaves."""

    parts: int = Field(default=4, ge=1, le=64, description="Into how many parts the file is dealt.")
    seconds: float = Field(default=0.0, ge=0, le=3600, description="How long each part takes.")
    fail: Literal["", "error", "defect", "exit", "memory"] = Field(
        default="", description="How the last part misbehaves, whoever does it."
    )


SHARED = Spec(
    name="shared",
    title="Shared: sums up the bytes of a file part by part, with the help of other workers where there are any",
    inputs=(InputSlot("file", "Any file", ("",)),),
    params=SharedParams,
    steps=(Step("run", "Answer", "pipeline.testing.shared:run"),),
)


class RelayParams(ConstantParams):
    """How the relay behaves."""

    fail_in: Literal[0, 1] = Field(default=0, description="The step that misbehaves.")


RELAY = Spec(
    name="relay",
    title="Relay: two steps from two queues, the second answers with what the first handed on",
    inputs=(InputSlot("file", "Any file", ("",)),),
    params=RelayParams,
    steps=(
        Step("data-processing", "Count", "pipeline.testing.run:count", "data-processing"),
        Step("model-prediction", "Answer", "pipeline.testing.run:answer", "model-prediction"),
    ),
)


class EchoParams(BaseModel, frozen=True, extra="forbid"):
    """What the echo says, and when."""

    message: str = Field(default="", max_length=10_000, description="The words to answer with.")
    pause: float = Field(default=0.0, ge=0, le=3600, description="How long to take, seconds.")


ECHO = Spec(
    name="echo",
    title="Echo: takes no file and answers with the words it was given",
    inputs=(),
    params=EchoParams,
    steps=(Step("run", "Answer", "pipeline.testing.run:echo"),),
    outputs=(OutputSlot("message", "The words", "text/plain", member="message", shape="string"),),
)
