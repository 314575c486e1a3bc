"""Take a kept version out: python -m deploy retire classroom 1.0. Drained first; its archive stays in the store."""

from typing import Any

import click

from common.cli import command
from common.errors import UserError
from deploy.change.preflight import unlisted_version
from deploy.change.session import Refused, deployment, print_result
from deploy.settings import Settings, read_settings
from deploy.store import desired
from deploy.store.desired import ServedVersion
from deploy.torchserve.management import Client


@command(epilog="Example: python -m deploy retire classroom 1.1")
@click.argument("name")
@click.argument("version")
@click.option("--why", default="", help="The reason, for the history.")
@click.option("--force", is_flag=True, help="Even while clients ask it by its own address: they get no answer.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def retire(name: str, version: str, why: str, force: bool, as_json: bool) -> None:
    """Unregister VERSION of NAME when it has answered all that it had."""
    entry = take_out(read_settings(), name, version, why=why, force=force, quiet=as_json)
    print_result(entry, f"{name} {version} is retired; {name}-{version}.mar stays in the store", as_json)


def take_out(
    settings: Settings, name: str, version: str, *, why: str = "", force: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Drain and unregister a version.

    Returns:
        the journal's entry.

    Raises:
        UserError: it is the default, not served, or still asked.
    """
    _entry(settings, name, version)  # nothing is journalled of what is not there
    with deployment(settings, "retire", name, version, quiet, why=why) as work:
        entry = _entry(settings, name, version)  # again: we are alone only now
        if entry.default or work.client.default(name) == version:
            raise Refused(f"{entry} is the default: roll another version out first")
        with work.step("drain") as step:
            rested = work.drained(entry)
            step.set(note="it has answered all that it had" if rested else "it is still asked by its own address")
            if not rested and not force:
                raise Refused(f"{entry} is still asked at /predictions/{name}/{version}: move its clients, or --force")
        with work.step("unregister"):
            work.take_out(entry)
    return work.journal.entry.to_json()


def _entry(settings: Settings, name: str, version: str) -> ServedVersion:
    """What is to go: an entry of the manifest, or a version that is registered without one."""
    entries = desired.read(settings.var)
    found = desired.find(entries, name, version) or unlisted_version(settings, Client(settings), name, version)
    if found is None:
        listed = ", ".join(entry.version for entry in entries if entry.name == name) or "none"
        raise UserError(f"{name} {version} is not served (served: {listed}): see python -m deploy status")
    return found
