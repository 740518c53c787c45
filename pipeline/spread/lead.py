"""The run that spreads its parts: it does what nobody else has begun, and waits only for what others are at."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.contracts import Done, Job
from pipeline.errors import StorageFull
from pipeline.spread.commands import Commands
from pipeline.spread.part import do

PARTS = ".parts"
"""Folder in the run's own where each part has one, by its number."""


class Lead:
    """Offers jobs to others by way of the supervisor, which knows what has become of each.

    Args:
        tell: Sends an event to the supervisor.
        commands: Its answers.
        inputs: The run's inputs by label.
        folder: For the files that parts leave; made when it is needed, and the caller's to remove.
    """

    def __init__(self, tell: Callable[..., None], commands: Commands, inputs: Mapping[str, Path], folder: Path) -> None:
        self._tell = tell
        self._commands = commands
        self._inputs = inputs
        self._folder = folder
        self._announced = 0

    def spread(self, function: str, jobs: Sequence[Job]) -> Iterator[Done]:
        """Announce jobs at once; yield what each left, in order. See ``pipeline.contracts.Helpers``."""
        first = self._announced
        self._announced += len(jobs)
        for number, job in enumerate(jobs, start=first):
            files = {name: str(path) for name, path in job.files.items()}
            about = {"function": function, "arguments": dict(job.arguments), "inputs": list(job.inputs)}
            self._tell("job", number=number, **about, files=files)
        self._tell("spread", first=first, count=len(jobs))
        return self._collect(function, dict(enumerate(jobs, start=first)))

    def _collect(self, function: str, jobs: Mapping[int, Job]) -> Iterator[Done]:
        done: dict[int, Done] = {}
        for wanted in jobs:
            while wanted not in done:
                answer = self._ask(wanted, max(jobs))
                if (mine := answer.get("do")) is not None:
                    job = jobs[mine]
                    inputs = {label: self._inputs[label] for label in job.inputs}
                    done[mine] = do(function, job.arguments, inputs, job.files, self._outdir(mine))
                else:
                    files = {name: Path(path) for name, path in answer["files"].items()}
                    done[answer["done"]] = Done(answer["result"], files)
            yield done.pop(wanted)
            shutil.rmtree(self._outdir(wanted), ignore_errors=True)

    def _ask(self, wanted: int, last: int) -> dict[str, Any]:
        """Ask for a part to do, or for what another has left of the one that is wanted; the answer may take long."""
        self._tell("next", wanted=wanted, last=last)
        answer = self._commands.next()
        if answer is None or "failed" in answer:
            why = "the worker is gone" if answer is None else answer["failed"]
            raise StorageFull(f"The parts of the run cannot be shared: {why}.", remedy="Restart the task.")
        return answer

    def _outdir(self, number: int) -> Path:
        return self._folder / str(number)
