"""A process that does parts of others' runs, one after the other, for as long as its supervisor has some."""

import sys
import traceback
from pathlib import Path

from pipeline.child import Protocol, translate
from pipeline.spread.commands import Commands
from pipeline.spread.part import do


def main(protocol: Protocol, commands: Commands) -> int:
    """Do what is asked for; a part that fails is told of and is no reason to end.

    Args:
        protocol: Where events go: ``part`` for each that was done, ``failed`` for each that was not.
        commands: Each with ``number``, ``function``, ``arguments``, ``inputs``, ``files`` and ``outdir``.

    Returns:
        The exit status.
    """
    for command in commands:
        number, outdir = command["number"], Path(command["outdir"])
        inputs, files = ({name: Path(path) for name, path in command[kind].items()} for kind in ("inputs", "files"))
        protocol.report(0.0, "helping")
        try:
            done = do(command["function"], command["arguments"], inputs, files, outdir)
        except KeyboardInterrupt:
            return 130
        except BaseException as error:  # noqa: BLE001  (panics of native extensions are no Exceptions)
            traceback.print_exc(file=sys.stderr)
            protocol.send("failed", number=number, error=translate(error, outdir).document())
        else:
            protocol.send("part", number=number, result=done.result, files=list(done.files))
    return 0
