"""``python -m pipeline run SPEC.json``: one run in a process of its own; events as JSON lines on standard output.

``python -m pipeline help`` does parts of others' runs instead, as it is told on the pipe ``--commands``.
"""

import argparse
import os
import sys
from pathlib import Path

from pipeline import guard
from pipeline.child import Protocol, interruptible, main
from pipeline.spread import helper
from pipeline.spread.commands import Commands


def cli() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Run one pipeline. Standard output carries JSON lines: progress, then done or error.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="run what a spec says")
    run.add_argument("spec", type=Path, help="JSON file: pipeline, inputs, outdir, params, seed")
    aid = verbs.add_parser("help", help="do parts of runs, as commanded")
    for verb in (run, aid):
        verb.add_argument(
            "--supervised",
            action="store_true",
            help="standard input is a pipe that the supervisor holds open: end, with all that was started, when it "
            "closes",
        )
        verb.add_argument(
            "--commands", type=int, required=verb is aid, help="descriptor of a pipe on which the supervisor speaks"
        )
    arguments = parser.parse_args()
    protocol = Protocol()
    if arguments.supervised:
        guard.die_with_parent()
        guard.guard_session(0, protocol.fd, *(() if arguments.commands is None else (arguments.commands,)))
        _cut_off_stdin()
    commands = None if arguments.commands is None else Commands(arguments.commands)
    if arguments.verb == "help" and commands is not None:
        return helper.main(protocol, commands)
    return main(arguments.spec, protocol, commands)


def _cut_off_stdin() -> None:
    """Leave the lifeline to the guardian: a program that the run starts must not read from it."""
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)


if __name__ == "__main__":
    with interruptible():
        sys.exit(cli())
