"""What an image pipeline is to everything around it; importing this loads no imaging library."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in an image: pixels from the upper left corner, the second corner to the lower right of the first."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One thing that a pipeline does, as results name it.

    Args:
        key: The slug by which clients know it.
        name: For people.
        task_type: ``detection``, ``classification``, or what else it is.
        description: One line for people.
        labels: Its classes in the order of its scores; empty if it has none.
        version: Grows whenever its answers change.
        uri: Where its weights or its documents are.
    """

    key: str
    name: str
    task_type: str
    description: str
    labels: tuple[str, ...] = ()
    version: int = 1
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class Classification:
    """What something was taken for.

    Args:
        algorithm: Who says so.
        label: The class.
        scores: A probability for each of the algorithm's labels, in their order.
        logits: The same before it was made one; empty if there is no such thing.
        terminal: Whether this is the last word, and no step on the way.
    """

    algorithm: Algorithm
    label: str
    scores: tuple[float, ...]
    logits: tuple[float, ...] = ()
    terminal: bool = True


@dataclass(frozen=True, slots=True)
class Detection:
    """Something in an image.

    Args:
        box: Where.
        algorithm: Who found it.
        classifications: What it was taken for, in order.
        crop_url: A picture of it alone, if the client gave one.
    """

    box: Box
    algorithm: Algorithm
    classifications: tuple[Classification, ...] = ()
    crop_url: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """One image, decoded.

    Args:
        id: The client's.
        pixels: RGB, as the file has them: an orientation that it asks for is not applied.
        seed: The same for the same file and the same ``seed`` of the config; for whatever is drawn by lot.
        given: What the client found in it already; None if the request says nothing of that.
    """

    id: str
    pixels: "Image"
    seed: int
    given: Sequence[Detection] | None = None

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.pixels.width

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.pixels.height


class Config(BaseModel, frozen=True, extra="ignore"):
    """What a request may choose. Keys that a pipeline does not know are ignored: clients send one config to all."""

    seed: int = Field(
        default=0, ge=-(2**63), lt=2**63, description="Makes other choices where things are drawn by lot."
    )


Runner = Callable[[Picture, Any], Iterable[Detection]]
"""From one image and the pipeline's config to what is in it; may raise ``PipelineError``."""


@dataclass(frozen=True, slots=True)
class ImagePipeline:
    """An image pipeline as the outside sees it.

    Args:
        slug: The name in requests.
        name: For people.
        description: One line for people.
        runner: ``package.module:function``, imported in the process that decodes images.
        algorithms: All that its results may name.
        config: Model of its config; defaults must work.
        version: Grows whenever its answers change.
    """

    slug: str
    name: str
    description: str
    runner: str
    algorithms: tuple[Algorithm, ...]
    config: type[Config] = field(default=Config)
    version: int = 1
