"""Go back to the version that answered before: python -m deploy rollback [NAME] [--to VERSION].

It has its workers still, so that one call switches. The version that is left stays registered, marked; a
second rollback goes further back, never forward again.
"""

from dataclasses import replace
from typing import Any

import click

from common.cli import command
from common.errors import UserError
from deploy.change.session import Refused, deployment, print_result
from deploy.settings import Settings, read_settings
from deploy.store import desired
from deploy.store.desired import ServedVersion
from deploy.torchserve import probes
from deploy.torchserve.management import Client, content


@command(epilog="Example: python -m deploy rollback classroom --why 'rooms are taken for calls'")
@click.argument("name", required=False)
@click.option("--to", "version", help="A kept version.  [default: the one that was default before]")
@click.option("--why", default="", help="The reason, for the history.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def rollback(name: str | None, version: str | None, why: str, as_json: bool) -> None:
    """Make the version before the default again, of NAME where several are served."""
    settings = read_settings()
    entry = roll_back(settings, name, version, why=why, quiet=as_json)
    print_result(entry, _summary(entry), as_json)


def _summary(entry: dict[str, Any]) -> str:
    name, previous = entry["name"], entry["previous"]
    stays = f"; {name} {previous} stays: python -m deploy retire {name} {previous} takes it out" if previous else ""
    return f"{name} {entry['version']} is the default again{stays}"


def roll_back(
    settings: Settings, name: str | None = None, version: str | None = None, *, why: str = "", quiet: bool = False
) -> dict[str, Any]:
    """Switch the default to a kept version.

    Returns:
        the journal's entry.

    Raises:
        UserError: nothing is kept, or what is kept does not answer.
    """
    name = name or the_name(settings)
    target = _target(desired.read(settings.var), name, version)
    with deployment(settings, "rollback", name, target.version, quiet, why=why) as work:
        entries = desired.read(settings.var)
        target = _target(entries, name, version)  # again: we are alone only now
        current = desired.default_of(entries, name)
        work.journal.set(version=target.version, previous=current and current.version)
        with work.step("prove") as step:
            step.set(note=_prove(work.client, settings, target))
        with work.step("default") as step:
            work.client.set_default(name, target.version)
            left = replace(current, left=not target.left) if current else None  # forward again: not left for good
            desired.write(settings.var, desired.switched(entries, target, left))
            step.set(note=f"/predictions/{name} is answered by {target.version}")
    return work.journal.entry.to_json()


def the_name(settings: Settings) -> str:
    """The name of what is served, where it is one.

    Raises:
        UserError: nothing is served, or several are.
    """
    names = sorted({entry.name for entry in desired.read(settings.var)})
    if len(names) != 1:
        reason = f"several are served: name one of {', '.join(names)}" if names else "nothing is served: run make up"
        raise UserError(reason)
    return names[0]


def _target(entries: list[ServedVersion], name: str, version: str | None) -> ServedVersion:
    kept = [entry for entry in entries if entry.name == name and not entry.default]
    wanted = [entry for entry in kept if (entry.version == version if version else not entry.left)]
    if wanted:
        return wanted[0]
    if kept and not version:
        raise UserError(
            f"{name} has no version left to go back to; {kept[0].version} was rolled back from: "
            f"python -m deploy rollback {name} --to {kept[0].version} returns to it"
        )
    raise UserError(
        f"{name} keeps no {'version ' + version if version else 'former version'} for rollback "
        f"(kept: {', '.join(entry.version for entry in kept) or 'none'}): "
        "roll an archive of the store out with python -m deploy rollout"
    )


def _prove(client: Client, settings: Settings, target: ServedVersion) -> str:
    """One golden photo: set-default does not look whether a version has workers, and one without never answers."""
    if not client.ready(target.name, target.version):
        raise Refused(f"{target} has no worker that is ready: see python -m deploy status; nothing was changed")
    question = probes.first_question(settings, target)
    if question is None:
        raise Refused(
            f"{target.archive} cannot be read, nor its copy in {settings.var}: put it and its .json into "
            f"{settings.store} again; nothing was changed"
        )
    reply = client.predict(f"{target.name}/{target.version}", question.body)
    if not reply.ok or content(reply).get("result") != question.golden.label:
        raise Refused(f"{target} answers {reply.text[:120]} to {question.golden.photo}; nothing was changed")
    return "a golden photo is answered rightly"
