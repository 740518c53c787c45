"""Options and exit statuses of the commands that talk to a server: what they raise becomes one line."""

import functools
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

import click

from app.client import ClientError, Refused, TaskFailed, Unreachable
from pipeline.errors import PipelineError

P = ParamSpec("P")
R = TypeVar("R")

OK, DEFECT, UNUSABLE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
_DEFECTS = {"INTERNAL", "LOST"}
EXIT_STATUS = """
    \b
    Exit status: 0 done; 2 the input cannot be used or the server refused (one line says why);
    3 the server does not answer; 1 a defect; 130 stopped by Ctrl-C.
"""


def fail(code: str, message: str, status: int) -> NoReturn:
    """Say what is wrong in one line, and end the command."""
    click.echo(f"error[{code}]: {' '.join(message.split())}", err=True)
    sys.exit(status)


def status_of(error: ClientError) -> int:
    """Return the exit status that tells an error."""
    if isinstance(error, Unreachable):
        return UNREACHABLE
    if isinstance(error, TaskFailed):
        return DEFECT if error.code in _DEFECTS else UNUSABLE
    return DEFECT if isinstance(error, Refused) and error.status >= 500 else UNUSABLE


def telling(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what a command raises into one line and an exit status."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ClientError as error:
            fail(error.code, f"{error.message} {error.remedy}", status_of(error))
        except PipelineError as error:
            fail(error.code, f"{error.message} {error.remedy}", UNUSABLE)
        except OSError as error:
            fail("STORAGE", f"{error.strerror or error}: {error.filename or ''}.", UNUSABLE)
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            sys.exit(INTERRUPTED)

    return run


server_option = click.option(
    "--server",
    envvar="VOLCAL_SERVER",
    default="http://127.0.0.1:8000",
    show_default=True,
    show_envvar=True,
    help="The server's base URL.",
)
key_option = click.option(
    "--key",
    "--token",
    "key",
    envvar=["VOLCAL_API_KEY", "VOLCAL_TOKEN"],
    show_envvar=True,
    help="Your key, if the server asks for one.",
)
patience_option = click.option(
    "--patience",
    default=120.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds that the server, or the line to it, may be away at a stretch.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output, and no progress.")
