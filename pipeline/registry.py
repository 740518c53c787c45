"""Every pipeline there is, by name."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, BinaryIO

from pydantic import BaseModel

from pipeline import raster_prediction, testing, volume_change
from pipeline.contracts import Runner, Spec
from pipeline.site import Site

PairCheck = Callable[[BinaryIO, int, BinaryIO, int], None]


class Catalogue(Mapping[str, Spec]):
    """An immutable set of pipelines by name.

    >>> CATALOGUE["volume_change"].labels
    ('pre', 'post', 'shp', 'shx')
    """

    def __init__(self, specs: Iterable[Spec]) -> None:
        by_name: dict[str, Spec] = {}
        for spec in specs:
            if not spec.steps:
                raise ValueError(f"pipeline {spec.name!r} has no step")
            if by_name.setdefault(spec.name, spec) is not spec:
                raise ValueError(f"two pipelines are named {spec.name!r}")
        self._specs = MappingProxyType(by_name)

    def __getitem__(self, name: str) -> Spec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def load(self, name: str, step: int = 0) -> Runner:
        """Import the function behind a step of a pipeline, with whatever it needs."""
        runner: Runner = resolve(self[name].steps[step].runner)
        return runner

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that some step waits in, each once; empty for the default one."""
        return tuple(dict.fromkeys(step.queue for spec in self.values() for step in spec.steps))

    def inspector(self, name: str) -> Any:
        """Import the function that checks one uploaded input; None if the pipeline has none."""
        target = self[name].inspector
        return None if target is None else resolve(target)

    def preflight(self, name: str, params: BaseModel, site: Site) -> None:
        """Look at a task's options as it is created.

        Raises:
            PipelineError: If they cannot come to a good end.
        """
        if (target := self[name].preflight) is not None:
            resolve(target)(params, site)

    def pairs(self, name: str) -> list[tuple[str, str, PairCheck]]:
        """Import the functions that check inputs against each other, with the labels they are for."""
        return [(pair.first, pair.second, resolve(pair.check)) for pair in self[name].pairs]


def resolve(target: str) -> Any:
    """Import what ``package.module:name`` names."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


CATALOGUE = Catalogue(
    [volume_change.SPEC, raster_prediction.SPEC, testing.CONSTANT, testing.RELAY, testing.ECHO, testing.SHARED]
)
