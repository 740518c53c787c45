"""The command line, volcal: everything that starts a part of the system goes through it."""

from importlib import import_module

import click

# command → "module:function", imported when the command is used, so that `volcal --help` is quick
# and the science is loaded only by those that need it.
COMMANDS = {
    "run": "app.cli.run:run",
    "demo": "app.cli.demo:demo",
    "up": "app.cli.up:up",
    "serve": "app.cli.parts:serve",
    "work": "app.cli.parts:work",
    "beat": "app.cli.parts:beat",
    "db": "app.cli.parts:db",
    "setup": "app.cli.parts:setup",
    "tidy": "app.cli.parts:tidy",
    "objects": "app.cli.parts:objects",
    "secrets": "app.cli.parts:secrets",
    "keys": "app.cli.keys:keys",
    "openapi": "app.cli.parts:openapi",
    "doctor": "app.cli.doctor:doctor",
    "submit": "app.cli.client:submit",
    "status": "app.cli.client:status",
    "submit-job": "app.cli.jobs:submit_job",
    "logs": "app.cli.remote.following:logs",
    "cancel": "app.cli.client:cancel",
    "fetch": "app.cli.client:fetch",
}


class _Lazy(click.Group):
    """A group whose commands are imported on use."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, function = COMMANDS[name].partition(":")
        command: click.Command = getattr(import_module(module), function)
        return command


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="volcal-server")
def main() -> None:
    """Measure how much ground moved between two surveys, and how sure one may be."""
