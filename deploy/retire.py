"""Unregister a kept version: python -m deploy retire classroom 1.0. It is drained first; its archive stays."""

from typing import Any

import click

from common.cli import command
from common.errors import NotFound, Unreachable
from deploy.change.preflight import unlisted_version
from deploy.change.session import Refused, deployment, named, print_result
from deploy.host.nodes import others
from deploy.settings import Settings, read_settings
from deploy.store import desired
from deploy.store.desired import ServedVersion
from deploy.torchserve.management import Client


@command(epilog="Example: python -m deploy retire classroom 1.1")
@click.argument("name")
@click.argument("version")
@click.option("--why", default="", help="The reason, for the history.")
@click.option("--force", is_flag=True, help="Retire it even if clients still request this version: they get errors.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def retire(name: str, version: str, why: str, force: bool, as_json: bool) -> None:
    """Unregister VERSION of NAME after it has answered all its requests."""
    entry = take_out(read_settings(), name, version, why=why, force=force, quiet=as_json)
    print_result(entry, f"{name} {version} is retired; {name}-{version}.mar stays in the store", as_json)


def take_out(
    settings: Settings, name: str, version: str, *, why: str = "", force: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Drain and unregister a version.

    Returns:
        the journal's entry.

    Raises:
        NotFound: it is not served.
        Refused: it is the default, or still gets requests.
        UserError: another change is in progress, or no server is running.
    """
    _entry(settings, name, version)  # an unknown version gets no journal entry
    with deployment(settings, "retire", name, version, quiet, why=why) as work:
        entry = _entry(settings, name, version)  # again, now that we hold the lock
        if entry.default or work.client.default(name) == version:
            raise Refused(f"{entry} is the default", "roll out another version first")
        with work.step("drain") as step:
            idle = work.drained(entry)
            step.set(note="it has answered all its requests" if idle else "it still gets requests at its own address")
            if not idle and not force:
                raise Refused(
                    f"{entry} still gets requests at /predictions/{name}/{version}", "move its clients, or give --force"
                )
        for node in others(settings):
            with work.step(node.name) as step, named(node):
                if desired.find(desired.read(node.settings.var), name, version):
                    of = f"of {work.journal.entry.id}"
                    step.set(note=_take_out_of(node.settings, name, version, why=of, force=force, quiet=True))
        with work.step("unregister"):
            work.take_out(entry)
    return work.journal.entry.to_json()


def _take_out_of(settings: Settings, name: str, version: str, **options: Any) -> str:
    """Take a version out of a further node; a note on it. One that is away follows when it is back."""
    try:
        take_out(settings, name, version, **options)
    except (Unreachable, NotFound):  # without a server there is no key either
        return "it is away: its keeper takes the version out when it is back"
    return "the version is taken out"


def _entry(settings: Settings, name: str, version: str) -> ServedVersion:
    """A version of the manifest, or one that is registered without being listed there."""
    entries = desired.read(settings.var)
    entry = desired.find(entries, name, version) or unlisted_version(settings, Client(settings), name, version)
    if entry is None:
        listed = ", ".join(entry.version for entry in entries if entry.name == name) or "none"
        raise NotFound(f"{name} {version} is not served (served: {listed})", "see python -m deploy status")
    return entry
