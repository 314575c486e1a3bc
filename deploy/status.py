"""How things stand: the server, who is at work, each version, the last change.

    python -m deploy status [--json]

exits 1 where a default version has no worker, or nothing is served.
"""

import json
from dataclasses import asdict
from typing import Any

import click

from common.cli import command
from common.errors import UserError
from deploy.host.locks import Owner, deployment_lock, server_lock
from deploy.models import describe
from deploy.settings import Settings, read_settings
from deploy.store import desired, profile
from deploy.store.journal import entries
from deploy.supervision.lifecycle import ask_keeper
from deploy.torchserve.management import Client


@command(epilog="Example: python -m deploy status --json")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def status(as_json: bool) -> None:
    """Say what is served, what should be, and who is changing it."""
    found = look(read_settings())
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _print(found)
    if not found["serving"]:
        raise UserError(found["reason"] or "nothing is served: start the server with make up or make serve")


def look(settings: Settings) -> dict[str, Any]:
    """Everything that is known of one node.

    Returns:
        `serving`: every default version has a worker that is ready; `ready`: what the keeper's /ready says, None
        where no keeper runs; `versions`: registered or wanted; `at_work`, `left_over`: who holds or left the lock.
    """
    past = entries(settings.var)
    versions, reason = _versions(settings)
    defaults = [row for row in versions if row["wanted_default"] or row["role"] == "default"]
    wrong = [why for row in defaults if (why := _wrong(row))]
    return {
        "serving": bool(defaults) and not wrong,
        "reason": reason or "; ".join(wrong) or None,
        "server": _told(server_lock(settings.var).owner()),
        "ready": ask_keeper(settings) or None,
        "at_work": _told(deployment_lock(settings.var).owner()),
        "left_over": _told(deployment_lock(settings.var).dead_owner()),
        "versions": versions,
        "last": past[-1].to_json() if past else None,
    }


def _versions(settings: Settings) -> tuple[list[dict[str, Any]], str | None]:
    """Rows of all versions that are registered or should be, and why none could be asked for."""
    wanted = {(entry.name, entry.version): entry for entry in desired.read(settings.var)}
    try:
        registered = {(v["modelName"], v["modelVersion"]): v for v in Client(settings).models()}
        reason = None
    except UserError as error:
        registered, reason = {}, error.message
    keys = [*wanted, *(key for key in registered if key not in wanted)]
    return [_row(settings, key, wanted.get(key), registered.get(key)) for key in keys], reason


def _row(
    settings: Settings, key: tuple[str, str], wanted: desired.ServedVersion | None, found: dict[str, Any] | None
) -> dict[str, Any]:
    name, version = key
    nothing = {"modelName": name, "modelVersion": version, "default": False}
    known = describe(found or nothing, settings)
    return {
        "name": name,
        "version": version,
        "role": _role(wanted, found),
        "wanted_default": bool(wanted and wanted.default),
        "workers": known["workers_ready"],
        "wanted": profile.serving_options(settings, wanted).workers if wanted else 0,
        "waiting": (found or {}).get("jobQueueStatus", {}).get("pendingRequests", 0),
        "archive": (settings.store / f"{name}-{version}.mar").is_file(),
        "digest": known["digest"],
        "run": known["run"],
    }


def _role(wanted: desired.ServedVersion | None, found: dict[str, Any] | None) -> str:
    if found is None:
        return "missing"
    if found["default"]:
        return "default"
    if wanted and wanted.default:
        return "should be the default"
    if wanted is None:
        return "not in the manifest"
    return "rolled back from" if wanted.left else "kept"


def _wrong(row: dict[str, Any]) -> str | None:
    """Why a default does not serve, and what to do."""
    which = f"{row['name']} {row['version']}"
    if row["role"] == "missing":
        return f"{which} should be served and is not registered: see {row['name']}'s lines in var/logs/keeper.log"
    if not row["workers"]:
        return f"{which} has no worker: see var/logs/model_log.log; python -m deploy rollback {row['name']} goes back"
    if row["role"] != "default":
        return f"{which} should be the default: python -m deploy history says why it is not"
    return None


def _told(found: Owner | None) -> dict[str, Any] | None:
    return asdict(found) if found else None


def _print(found: dict[str, Any]) -> None:
    ready = found["ready"]
    words = "no keeper runs" if ready is None else "yes" if ready.get("ready") else f"no: {ready.get('reason')}"
    click.echo(f"server:   {_holder(found['server'])}")
    click.echo(f"ready:    {words}")
    click.echo(f"at work:  {_holder(found['at_work'])}")
    if found["left_over"]:
        click.echo(f"left:     {_holder(found['left_over'])} was killed: run the same command again, it goes on")
    if found["last"]:
        last = found["last"]
        click.echo(
            f"last:     {last['action']} of {last['name']} {last['version']}, {last['state']}, {last['started']}"
        )
    for row in found["versions"]:
        click.echo(_line(row))


def _line(row: dict[str, Any]) -> str:
    archive = "" if row["archive"] else ", its archive is missing from the store"
    workers = f"{row['workers']} of {row['wanted']} workers ready, {row['waiting']} requests wait"
    known = f"digest {(row['digest'] or 'unknown')[:12]}, run {row['run'] or 'unknown'}"
    return f"version:  {row['name']} {row['version']}  {row['role']:<8}  {workers}, {known}{archive}"


def _holder(row: dict[str, Any] | None) -> str:
    return str(Owner(**row)) if row else "nobody"
