"""Names the species, at random, of what was found: by the client if it says what it found, else by a detector."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

from pipeline.images import chance, constant
from pipeline.images.contracts import Config, Detection, ImagePipeline, Picture


def run_random(picture: Picture, config: chance.Chances) -> Iterator[Detection]:
    """Name what the client found, or else boxes at random places."""
    return _named(picture, chance.run(picture, config))


def run_constant(picture: Picture, config: Config) -> Iterator[Detection]:
    """Name what the client found, or else the one box that is found in every image."""
    return _named(picture, constant.run(picture, config))


def _named(picture: Picture, otherwise: Iterable[Detection]) -> Iterator[Detection]:
    lots = random.Random(picture.seed + 1)  # noqa: S311  (not a secret); other lots than those of the boxes
    for detection in otherwise if picture.given is None else picture.given:
        yield replace(detection, classifications=(chance.guess(lots, chance.SPECIES),))


PIPELINES = (
    ImagePipeline(
        slug="random-detection-random-species",
        name="Random detection, random species",
        description="Names, at random, what the client found, or else boxes at random places.",
        runner="pipeline.images.species:run_random",
        algorithms=(chance.DETECTOR, chance.SPECIES),
        config=chance.Chances,
    ),
    ImagePipeline(
        slug="constant-detection-random-species",
        name="Constant detection, random species",
        description="Names, at random, what the client found, or else the same box of every image.",
        runner="pipeline.images.species:run_constant",
        algorithms=(constant.DETECTOR, chance.SPECIES),
    ),
)
