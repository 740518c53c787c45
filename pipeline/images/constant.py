"""Finds the same thing at the same place of every image: for trying out what is around a pipeline."""

from collections.abc import Iterator

from pipeline.images.contracts import Algorithm, Box, Classification, Config, Detection, ImagePipeline, Picture

DETECTOR = Algorithm(
    key="constant-detector",
    name="Constant detector",
    task_type="detection",
    description="Finds one box, a quarter of the image wide and high, an eighth from its upper left corner.",
)
CLASSIFIER = Algorithm(
    key="constant-classifier",
    name="Constant classifier",
    task_type="classification",
    description="Takes everything for a moth.",
    labels=("Moth",),
)


def run(picture: Picture, _config: Config) -> Iterator[Detection]:
    """Find the one box."""
    moth = Classification(CLASSIFIER, "Moth", scores=(0.9,))
    yield Detection(fixed_box(picture), DETECTOR, (moth,))


def fixed_box(picture: Picture) -> Box:
    """Return the box that is found in every image, whole pixels."""
    left, top = picture.width // 8, picture.height // 8
    return Box(left, top, left + picture.width // 4, top + picture.height // 4)


PIPELINE = ImagePipeline(
    slug="constant",
    name="Constant",
    description="One moth in the same place of every image.",
    runner="pipeline.images.constant:run",
    algorithms=(DETECTOR, CLASSIFIER),
)
