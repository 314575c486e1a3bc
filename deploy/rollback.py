"""Make the former version the default again: python -m deploy rollback [NAME] [--to VERSION].

Its workers are still running, so one call switches. The version that is rolled back from stays registered and is
marked: a second rollback goes further back and never returns to it.
"""

from dataclasses import replace
from typing import Any

import click

from common.cli import command
from common.errors import InvalidInput, NotFound
from deploy.change.session import Refused, deployment, named, print_result
from deploy.host.nodes import others
from deploy.settings import Settings, read_settings
from deploy.store import desired
from deploy.store.desired import ServedVersion
from deploy.torchserve import probes
from deploy.torchserve.management import Client, content


@command(epilog="Example: python -m deploy rollback classroom --why 'rooms are taken for calls'")
@click.argument("name", required=False)
@click.option("--to", "version", help="A kept version.  [default: the one that was default before]")
@click.option("--why", default="", help="The reason, for the history.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def rollback(name: str | None, version: str | None, why: str, as_json: bool) -> None:
    """Make the former version of NAME the default again; NAME is needed only if several names are served."""
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
        NotFound: no version is kept.
        Refused: the kept version does not answer correctly.
        UserError: another change is in progress, or no server is running.
    """
    name = name or the_name(settings)
    target = _target(desired.read(settings.var), name, version)
    with deployment(settings, "rollback", name, target.version, quiet, why=why) as work:
        entries = desired.read(settings.var)
        target = _target(entries, name, version)  # again, now that we hold the lock
        current = desired.default_of(entries, name)
        work.journal.set(version=target.version, previous=current and current.version)
        with work.step("prove") as step:
            step.set(note=_prove(work.client, settings, target))
        for node in others(settings):
            with work.step(node.name) as step, named(node):
                step.set(note=_prove(Client(node.settings), node.settings, target))
        with work.step("default") as step:
            work.client.set_default(name, target.version)
            # Returning to a version that was rolled back from does not mark the version that it replaces.
            left = replace(current, left=not target.left) if current else None
            desired.write(settings.var, desired.switched(entries, target, left))
            step.set(note=f"/predictions/{name} is answered by {target.version}")
        for node in others(settings):
            with work.step(node.name) as step, named(node):
                current = desired.default_of(desired.read(node.settings.var), name)
                if current is None or current.version != target.version:
                    why = f"of {work.journal.entry.id}"
                    roll_back(node.settings, name, target.version, why=why, quiet=True)
                step.set(note=f"/predictions/{name} is answered by {target.version}")
    return work.journal.entry.to_json()


def the_name(settings: Settings) -> str:
    """The one name that is served.

    Raises:
        NotFound: nothing is served.
        InvalidInput: several names are served.
    """
    names = sorted({entry.name for entry in desired.read(settings.var)})
    if not names:
        raise NotFound("nothing is served", "run make up")
    if len(names) > 1:
        raise InvalidInput("several names are served", f"give one of {', '.join(names)}")
    return names[0]


def _target(entries: list[ServedVersion], name: str, version: str | None) -> ServedVersion:
    kept = [entry for entry in entries if entry.name == name and not entry.default]
    candidates = [entry for entry in kept if (entry.version == version if version else not entry.left)]
    if candidates:
        return candidates[0]
    if kept and not version:
        former = kept[0].version
        raise NotFound(
            f"{name} has no version left to roll back to; {former} was rolled back from",
            f"python -m deploy rollback {name} --to {former} returns to it",
        )
    raise NotFound(
        f"{name} keeps no {'version ' + version if version else 'former version'} for rollback "
        f"(kept: {', '.join(entry.version for entry in kept) or 'none'})",
        "roll out an archive of the store with python -m deploy rollout",
    )


def _prove(client: Client, settings: Settings, target: ServedVersion) -> str:
    """Ask one golden photo: TorchServe would also make a version without workers the default."""
    if not client.ready(target.name, target.version):
        raise Refused(f"{target} has no ready worker, and nothing was changed", "see python -m deploy status")
    question = probes.first_question(settings, target)
    if question is None:
        raise Refused(
            f"neither {target.archive} nor its copy in {settings.var} can be read, and nothing was changed",
            f"put it and its .json into {settings.store} again",
        )
    reply = client.predict(f"{target.name}/{target.version}", question.body)
    if not reply.ok or content(reply).get("result") != question.golden.label:
        raise Refused(f"{target} answers {reply.text[:120]} to {question.golden.photo}, and nothing was changed")
    return "a golden photo is answered correctly"
