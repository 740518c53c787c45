"""`volcal doctor`: asks every configured part whether it answers, and says what to mend."""

import sys
from collections.abc import Callable
from pathlib import Path

import click

from app.cli.doctor import machine, processes, servers
from app.cli.doctor.finding import Finding
from app.cli.parts import hidden, read_settings
from app.observe.checks import told
from app.observe.masking import Mask
from app.observe.probe import Probe
from app.settings import Settings

PATIENCE_S = 40.0
_PATIENT = {"science": 310.0}  # seconds: the first import may compile

Look = Callable[[Settings], Finding | None]
"""Looks at one part; None if there is no such part here."""

LOOKS: dict[str, Look] = {
    "folder": machine.folder,
    "disk": machine.disk,
    "secrets": machine.secrets,
    "keys": machine.keys,
    "database": servers.database,
    "store": servers.store,
    "uploads": servers.uploads,
    "broker": servers.broker,
    "clock": servers.clock,
    "worker": processes.worker,
    "beat": processes.beat,
    "gateway": processes.gateway,
    "science": machine.science,
    "open3d": machine.open3d,
}
"""Every look, by the name that people see."""


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Folder of `volcal up`.  [default: var]")
@click.option("--url", help="Where the gateway should answer.  [default: VOLCAL_PUBLIC_URL]")
def doctor(data: Path | None, url: str | None) -> None:
    r"""Check that every configured part answers, and say what to mend.

    With an object store and a tusd it writes, reads and deletes a small object, and opens and discards an upload.

    \b
    Exit status: 0 if all is well or only something optional is missing; 1 if something must be mended.
    """
    settings = read_settings(data_dir=data, public_url=url)
    mask = Mask(hidden(settings))
    sick = False
    for name, look in LOOKS.items():
        found = _ask(name, look, settings)
        if found is None:
            continue
        mark = (
            click.style("ok  ", fg="green") if found.good else click.style("MEND" if found.fatal else "note", fg="red")
        )
        click.echo(f"{mark} {name:<10} {mask(found.said)}")
        if not found.good:
            click.echo(f"{'':15} → {found.remedy}")
            sick = sick or found.fatal
    sys.exit(1 if sick else 0)


def _ask(name: str, look: Look, settings: Settings) -> Finding | None:
    """Look, but not for ever: a server may be there and say nothing."""
    patience_s = _PATIENT.get(name, PATIENCE_S)
    try:
        return Probe(lambda: look(settings), patience_s=patience_s).answer()
    except TimeoutError:
        remedy = "It may hang, or something between may swallow what is sent: restart it, look at the network."
        return Finding(good=False, said=f"did not answer within {patience_s:g} s", remedy=remedy)
    except Exception as error:  # noqa: BLE001  (a doctor does not die of what it finds)
        return Finding(good=False, said=told(error), remedy="See the message.")
