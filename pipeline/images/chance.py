"""Finds things at random places of an image, the same ones in the same image: for trying out clients."""

import math
import random
from collections.abc import Iterator

from pydantic import Field

from pipeline.images.contracts import Algorithm, Box, Classification, Config, Detection, ImagePipeline, Picture

DETECTOR = Algorithm(
    key="random-detector",
    name="Random detector",
    task_type="detection",
    description="Finds boxes at random places within the image.",
)
BINARY = Algorithm(
    key="random-binary-classifier",
    name="Random binary classifier",
    task_type="classification",
    description="Throws a coin: a moth, or not.",
    labels=("Moth", "Not a moth"),
)
SPECIES = Algorithm(
    key="random-species-classifier",
    name="Random species classifier",
    task_type="classification",
    description="Draws a species by lot.",
    labels=("Vanessa atalanta", "Vanessa cardui", "Vanessa itea"),
)


class Chances(Config):
    """What a request may choose."""

    boxes: int = Field(default=10, ge=0, le=1000, description="Boxes to find in each image.")


def run(picture: Picture, config: Chances) -> Iterator[Detection]:
    """Find boxes, each in a cell of its own of a grid laid over the image."""
    lots = random.Random(picture.seed)  # noqa: S311  (not a secret)
    side = math.ceil(math.sqrt(config.boxes))
    for cell in lots.sample(range(side * side), config.boxes):
        box = _within(picture, lots, cell % side, cell // side, side)
        yield Detection(box, DETECTOR, (guess(lots, BINARY, terminal=False), guess(lots, SPECIES)))


def _within(picture: Picture, lots: random.Random, column: int, row: int, side: int) -> Box:
    """Return a box of half to all of a cell's width and height, somewhere in the cell."""
    cell_width, cell_height = picture.width / side, picture.height / side
    width, height = (lots.uniform(0.5, 1.0) * length for length in (cell_width, cell_height))
    left = column * cell_width + lots.uniform(0.0, cell_width - width)
    top = row * cell_height + lots.uniform(0.0, cell_height - height)
    return Box(left, top, min(left + width, picture.width), min(top + height, picture.height))


def guess(lots: random.Random, algorithm: Algorithm, *, terminal: bool = True) -> Classification:
    """Draw a class by lot, with scores as a network would give them: the softmax of logits."""
    logits = tuple(lots.random() for _ in algorithm.labels)
    whole = sum(math.exp(logit) for logit in logits)
    scores = tuple(math.exp(logit) / whole for logit in logits)
    label = algorithm.labels[scores.index(max(scores))]
    return Classification(algorithm, label, scores, logits, terminal)


PIPELINE = ImagePipeline(
    slug="random",
    name="Random",
    description="Moths and others at random places, of random species; the same in the same image.",
    runner="pipeline.images.chance:run",
    algorithms=(DETECTOR, BINARY, SPECIES),
    config=Chances,
)
