"""Learn from agreed labels: pull, train, judge, pack, announce.

    python -m feedback nightly --server http://10.0.0.5:5000 --token-file trainer.token \\
        --recipe classroom --anchor runs/classroom/ID-train --signed models/classroom --base PHOTOS --frozen FROZEN

asks the web application over HTTP only. It fine-tunes from the anchor, the last run that a person signed, on the base
photos and the agreed ones together; prunes and exports; and compares the candidate with the anchor (gate.json). What
passes is packed, and announced with POST /model if --publish says where it can be downloaded. Stopped at any step, the
same command goes on there. With fewer than 20 newly agreed photos there is nothing to learn, and it ends with exit 0.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.cli import command
from common.console import say
from common.errors import AlreadyExists, CheckFailed, InvalidInput, NotFound
from common.words import number_of
from dataset.listing import files_of
from feedback.delivery.keys import read_key
from feedback.delivery.release import sign
from feedback.delivery.upload import upload
from feedback.learning import night as nights
from feedback.learning import snapshot as snapshots
from feedback.learning.client import Agreed, FeedbackServer, read_token
from feedback.learning.gate import LEAST_NEW
from feedback.learning.night import Night, Plan
from feedback.photos.frozen import frozen_hashes

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@command(
    epilog="Example: python -m feedback nightly --server http://127.0.0.1:5000 --token-file trainer.token "
    "--recipe shapes --anchor RUN --signed BUNDLE --base PHOTOS --frozen FROZEN"
)
@click.option("--server", required=True, help="URL of the web application.")
@click.option("--token-file", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--recipe", required=True, help="Recipe: name or path.")
@click.option("--anchor", required=True, type=_FOLDER, help="Run to start from: the last one that a person signed.")
@click.option(
    "--signed", required=True, type=_FOLDER, help="Bundle of that model, which the candidate must not lose to."
)
@click.option("--base", required=True, multiple=True, type=click.Path(exists=True, path_type=Path), help="Base photos.")
@click.option("--frozen", required=True, type=_FOLDER, help="Label folders of the frozen test photos.")
@click.option("--once-fixed", type=_FOLDER, help="Label folders of photos that must not become wrong again.")
@click.option("--prune/--no-prune", default=True, show_default=True, help="Prune before the export.")
@click.option(
    "--idle/--no-idle",
    default=True,
    show_default=True,
    help="Compute only while nobody else wants the cores: a machine that is always busy then never finishes.",
)
@click.option(
    "--publish",
    help="URL prefix under which WORK/archives can be downloaded (s3://bucket/prefix: it is uploaded there); announces "
    "what passes.",
)
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Private key that signs the archive (python -m feedback keys make); --publish needs it.",
)
@click.option("--work", default=Path("runs/nightly"), show_default=True, type=click.Path(path_type=Path))
def nightly(
    server: str,
    token_file: Path,
    recipe: str,
    anchor: Path,
    signed: Path,
    base: tuple[Path, ...],
    frozen: Path,
    once_fixed: Path | None,
    prune: bool,
    idle: bool,
    publish: str | None,
    key: Path | None,
    work: Path,
) -> None:
    """Pull agreed labels, fine-tune, judge, and announce a better model."""
    if publish and not key:
        raise InvalidInput("--publish was given without --key", "an archive that is not signed is never rolled out")
    signer = read_key(key) if key else None
    plan = Plan(
        recipe, anchor.resolve(), signed.resolve(), (), frozen.resolve(), once_fixed, prune, work.resolve(), idle
    )
    plan = replace(plan, base=tuple(place.resolve() for place in base))
    with nights.only_one(plan.work) as lock:
        plan = replace(plan, lock=lock)
        client = FeedbackServer(server, read_token(token_file))
        rows = list(client.agreed())
        _forget(plan.work, rows)
        night = nights.unfinished(plan) or _begin(plan, client, rows)
        if night:
            _finish(night, client, publish, signer)


def _forget(work: Path, rows: Sequence[Agreed]) -> None:
    """Remove the copies of photos that the server no longer hands out: somebody had them forgotten, or they expired."""
    ids, files = {row.id for row in rows}, {PurePosixPath(row.url).name for row in rows}
    removed = snapshots.remove(work, lambda number: number not in ids, lambda name: name not in files)
    if removed:
        say(f"removed {number_of(len(removed), 'copy', 'copies')} of photos that the server no longer hands out")


def _begin(plan: Plan, client: FeedbackServer, rows: Sequence[Agreed]) -> Night | None:
    """Pull, and make the snapshot; None if there is nothing to learn."""
    new = {row.id for row in rows} - nights.learned_ids(plan.work)
    if not nights.enough(len(new)):
        say(f"nothing to learn: {len(new)} newly agreed photos, {LEAST_NEW} are needed")
        return None
    photos = snapshots.fetch(client, rows, plan.work / "cache")
    base = sum(len(files_of(place, links=True)) for place in plan.base if place.is_dir())
    chosen = snapshots.choose(photos, plan.labels, frozen_hashes(plan.frozen), base)
    digest = snapshots.digest_of(chosen)
    snapshots.write(plan.work / "snapshots" / digest, chosen)
    night = Night(plan.work / "nights" / f"{digest[:12]}-{plan.anchor.name}", plan)
    night.note(snapshot=digest, anchor=str(plan.anchor), photos=sorted(row.id for row in rows))
    say(f"{len(new)} newly agreed photos; snapshot {digest[:12]}")
    return night


def _finish(night: Night, client: FeedbackServer, publish: str | None, signer: Ed25519PrivateKey | None) -> None:
    """Train, judge, pack, sign and announce.

    Raises:
        CheckFailed: the gate refused the candidate.
    """
    plan, snapshot = night.plan, night.plan.work / "snapshots" / night.state["snapshot"]
    if not snapshot.is_dir():
        raise NotFound(f"{snapshot} is missing", f"remove {night.folder} to begin again")
    try:
        bundle = night.candidate(snapshot)
        if not night.state.get("version"):
            verdict = night.judged(bundle, snapshot, nights.tries_since(plan.work, plan.anchor))
            if verdict != "passed":
                raise CheckFailed(verdict, f"the numbers are in {night.folder / nights.GATE}")
            night.note(version=max(client.newest_version(), nights.last_version(plan.work), 1) + 1)
        version = int(night.state["version"])
        archive = night.packed(bundle, version)
    except CheckFailed as error:
        night.note(verdict=error.message)
        raise
    if signer:
        sign(archive, signer)
    if publish:
        upload(archive, publish)
        _announce(night, client, archive, publish)
    night.note(verdict="passed", archive=str(archive))
    say(f"passed: {archive}\nnext: python -m deploy rollout {archive}")


def _announce(night: Night, client: FeedbackServer, archive: Path, publish: str) -> None:
    try:
        client.announce(
            link=f"{publish.rstrip('/')}/{archive.name}",
            ckpt_name=night.folder.name,
            version=int(night.state["version"]),
            name=_name_of(archive),
            gate=(night.folder / nights.GATE).read_text(encoding="utf-8"),
        )
    except AlreadyExists as error:
        night.note(version=None)
        raise AlreadyExists(error.problem, "the same command packs the next version") from error


def _name_of(archive: Path) -> str:
    """The recipe's name in an archive's file name."""
    return archive.stem.rpartition("-")[0]
