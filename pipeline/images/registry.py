"""An immutable set of image pipelines by slug."""

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from types import MappingProxyType

from pipeline.images.contracts import ImagePipeline, Runner


class Registry(Mapping[str, ImagePipeline]):
    """Image pipelines by slug, in the order given.

    >>> from pipeline.images import PIPELINES
    >>> PIPELINES["constant"].algorithms[0].key
    'constant-detector'
    """

    def __init__(self, pipelines: Iterable[ImagePipeline]) -> None:
        by_slug: dict[str, ImagePipeline] = {}
        for pipeline in pipelines:
            if by_slug.setdefault(pipeline.slug, pipeline) is not pipeline:
                raise ValueError(f"two image pipelines are named {pipeline.slug!r}")
            keys = [algorithm.key for algorithm in pipeline.algorithms]
            if len(set(keys)) < len(keys):
                raise ValueError(f"two algorithms of {pipeline.slug!r} have the same key")
        self._pipelines = MappingProxyType(by_slug)

    def __getitem__(self, slug: str) -> ImagePipeline:
        return self._pipelines[slug]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pipelines)

    def __len__(self) -> int:
        return len(self._pipelines)

    def load(self, slug: str) -> Runner:
        """Import the function behind a pipeline, with whatever it needs."""
        module, _, name = self[slug].runner.partition(":")
        runner: Runner = getattr(import_module(module), name)
        return runner
