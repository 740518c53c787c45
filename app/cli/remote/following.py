"""`volcal logs`, and `volcal status --follow`: what happens to a task, as it happens."""

from datetime import UTC, datetime

import click

from app.cli.remote.options import EXIT_STATUS, json_option, key_option, patience_option, server_option, telling
from app.client import LogLine, Standing, TaskFailed, VolcalClient


def tell(client: VolcalClient, task_id: str, *, as_json: bool) -> None:
    """Print a line for each news of a task until it has ended.

    Raises:
        TaskFailed: If it ends without a result.
    """
    shown = ""
    for event in client.events(task_id):
        if as_json:
            click.echo(event.task.model_dump_json())
        elif (line := describe(event.task, datetime.now(UTC))) != shown:
            click.echo(line)
            shown = line
        if event.task.is_settled and event.task.status != "done":
            raise TaskFailed(event.task.status, event.task.error or {})


def describe(task: Standing, now: datetime) -> str:
    """Return where a task stands, in a line.

    >>> describe(Standing(id="7", status="running", stage="reading", progress=0.256), datetime.now(UTC))
    'running, reading (25%)'
    """
    words = [task.status, task.stage, f"step {task.step} of {task.steps}" if task.steps > 1 else ""]
    if task.queue_position:
        words.append(f"number {task.queue_position} in the queue")
    if task.attempts > 1:
        words.append(f"attempt {task.attempts}")
    line = f"{', '.join(filter(None, words))} ({int(100 * task.progress)}%)"
    if task.eta is None or task.is_settled:
        return line
    minutes, seconds = divmod(max(0, round((task.eta - now).total_seconds())), 60)
    return f"{line}, about {f'{minutes} min ' if minutes else ''}{seconds} s left"


@click.command(epilog=EXIT_STATUS)
@click.argument("task_id", metavar="ID")
@click.option("--follow", is_flag=True, help="Go on until the task has ended.")
@server_option
@key_option
@patience_option
@json_option
@telling
def logs(task_id: str, follow: bool, server: str, key: str | None, patience: float, as_json: bool) -> None:
    """Print what happened to task ID: files, queue, stages with their seconds, warnings, what the run wrote."""
    with VolcalClient(server, key=key, patience_s=patience) as client:
        line = _print(client, task_id, 0, as_json=as_json)
        for event in client.events(task_id) if follow else ():
            if event.task.log_lines > line or event.name == "end":
                line = _print(client, task_id, line, as_json=as_json)


def _print(client: VolcalClient, task_id: str, line: int, *, as_json: bool) -> int:
    """Print the lines from a number on; return the number to go on with."""
    while (page := client.logs(task_id, line=line)).lines:
        for found in page.lines:
            click.echo(found.model_dump_json() if as_json else _text(found))
        line = page.next
    return line


def _text(line: LogLine) -> str:
    when = line.time.astimezone().strftime("%H:%M:%S")
    stage = f"{line.stage}: " if line.stage else ""
    return f"{when} {line.level:<7} {stage}{line.message}"
