"""What a pipeline is to everything around it; importing this loads no science."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from pipeline.site import Site


@dataclass(frozen=True, slots=True)
class InputSlot:
    """One file that a pipeline asks for."""

    label: str
    title: str
    formats: tuple[str, ...]  # file name endings, lower case, with the dot
    required: bool = True


@dataclass(frozen=True, slots=True)
class OutputSlot:
    """One part of a result, for clients that choose among them; the result document itself is always one.

    Args:
        label: What clients call it; not that of an input.
        title: One line for people.
        media_type: Of the file, or of the value.
        file: Path below the result folder; empty for a value. A run may leave it out.
        member: Name of the value in the result document.
        shape: JSON type of the value.
    """

    label: str
    title: str
    media_type: str
    file: str = ""
    member: str = ""
    shape: Literal["string", "number", "object"] = "object"


@dataclass(frozen=True, slots=True)
class Step:
    """One part of a pipeline's work that is done by itself: from its own queue, perhaps on another machine.

    Args:
        name: The slug, such as ``data-processing``.
        title: One line for people.
        runner: ``package.module:function``, imported on first use, since that loads the science. What its outcome
            names is handed to the next step; the last one's is the task's result.
        queue: Workers that listen to it take the step; empty = those of the default queue.
        fetches: Whether it reads from the web: the worker opens a gate for it, and says in ``Run.site`` where that is.
    """

    name: str
    title: str
    runner: str
    queue: str = ""
    fetches: bool = False


@dataclass(frozen=True, slots=True)
class InputPair:
    """Two files that must fit each other.

    Args:
        first: Label of the one.
        second: Label of the other.
        check: ``package.module:function``, called as ``check(first, first_size, second, second_size)`` with
            seekable streams and sizes in bytes once both are there; raises ``PipelineError``. Standard
            library only, because the gateway calls it.
    """

    first: str
    second: str
    check: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of the result folder."""

    name: str  # path below the result folder, with slashes
    media_type: str
    title: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run leaves: the result document and the files that it names."""

    document: dict[str, Any]
    artifacts: tuple[Artifact, ...]


Report = Callable[[float, str], None]
"""Takes the fraction done (0 to 1, never falling) and the stage's name."""


def _silent(fraction: float, stage: str) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True)
class Job:
    """A part of a run that somebody else may do, on another machine.

    Args:
        arguments: What its function is called with, JSON.
        inputs: Labels of the run's inputs that it reads.
        files: Files of the run that it reads, by the names under which it finds them; they must not change any more.
    """

    arguments: Mapping[str, Any]
    inputs: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """What the function of a job is given besides its arguments.

    Args:
        inputs: Path of each input that the job names, by its label.
        files: Path of each file that the job names.
        outdir: An empty folder for what it leaves: files, none of them in folders.
    """

    inputs: Mapping[str, Path]
    files: Mapping[str, Path]
    outdir: Path


@dataclass(frozen=True, slots=True)
class Done:
    """What a job left: what its function returned, JSON, and its files by name."""

    result: Any
    files: Mapping[str, Path]


class Helpers(Protocol):
    """Those who may do parts of a run."""

    def spread(self, function: str, jobs: Sequence[Job]) -> Iterator[Done]:
        """Announce jobs at once, and yield what each left, in their order; the caller does what nobody else has begun.

        Args:
            function: ``package.module:function``, called as ``function(part, **arguments)`` with a ``Part``. It
                must give the same whoever does it.
            jobs: What is to be done. The files of one that was yielded may be gone when the next one is.
        """


@dataclass(frozen=True, slots=True)
class Run:
    """One run's surroundings; a pipeline reaches nothing that is not in here.

    Args:
        inputs: Path of each input by its label. Names are as the user knows them where possible.
        outdir: The result folder; exists and is empty.
        seed: Makes every random choice repeatable.
        report: Called as the run goes on.
        before: Folder with the files of the step before this one; None in the first.
        facts: The document of the step before; empty in the first.
        helpers: Who may do parts of it; None = the run does all by itself. The result never depends on it.
        site: What the deployment gives to runs.
    """

    inputs: Mapping[str, Path]
    outdir: Path
    seed: int = 0
    report: Report = field(default=_silent)
    before: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    helpers: Helpers | None = None
    site: Site = field(default_factory=Site)


class Runner(Protocol):
    """The function behind a pipeline."""

    def __call__(self, run: Run, params: Any, /) -> Outcome:
        """Run and leave the result folder."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A pipeline as the outside sees it.

    Args:
        name: The slug, such as ``volume_change``.
        title: One line for people.
        inputs: The files it asks for, in order; a task of a pipeline that takes none is queued as it is created.
        params: Model of its options; its JSON schema is shown to clients. Defaults must work, but see ``example``.
        steps: What is done one after the other, each by itself; most pipelines have one.
        inspector: ``package.module:function`` that checks one uploaded input and raises
            ``PipelineError``; standard library only, because the gateway calls it. Its signature is
            ``inspect(label: str, stream: BinaryIO, size: int, name: str) -> int | None``: the points of a survey.
        pairs: Inputs that must fit each other.
        outputs: Parts of the result that clients may choose by name; every file is to be had without.
        preflight: ``package.module:function`` that looks at a task's options as it is created, called as
            ``preflight(params, site)``; raises ``PipelineError``. Nothing heavy, because the gateway calls it.
        example: Options that work, where a pipeline needs some.
    """

    name: str
    title: str
    inputs: tuple[InputSlot, ...]
    params: type[BaseModel]
    steps: tuple[Step, ...]
    inspector: str | None = None
    pairs: tuple[InputPair, ...] = ()
    outputs: tuple[OutputSlot, ...] = ()
    preflight: str | None = None
    example: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the required inputs, in order."""
        return tuple(slot.label for slot in self.inputs if slot.required)
