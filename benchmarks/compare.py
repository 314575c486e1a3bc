"""This project beside what a user would pick instead, in one run on one machine.

    make bench                                                        # all systems, five rounds
    python -m benchmarks.compare --systems ours,fastapi --quick       # a look whether all works; no figures to keep

Each round starts every system alone, warms it up, and loads it: wrk with 1 and with 8 clients, a constant rate of half
of what it did with 8, and one client with a photo of 4000 x 3000. Systems are in benchmarks/peers/systems.py. Answers
must name a label, and with our model the very one that the graph gives here; every other answer counts as an error.
Of all systems it writes benchmarks/results/compare.json and .png and the table between the markers of
docs/benchmarks.md; of some of them only what --out asks for. Prints Markdown, and one JSON line last; exits 1 if a
promise of the comparison is not kept.
"""

import contextlib
import json
import os
import platform
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import requests

from benchmarks.footprint import BUNDLE
from benchmarks.harness.bench import RESULTS
from benchmarks.peers import load, models, work
from benchmarks.peers.comparison import as_json, between_markers, chart, points, summary, table
from benchmarks.peers.running import Running, free_ports, label, running
from benchmarks.peers.systems import Place, System, systems
from common.cli import command
from common.errors import UserError
from common.files import write_json, write_whole
from deploy.host.processes import interruptible
from deploy.settings import ROOT
from handler import engine
from handler.spec import read_spec

FORMER = "e099970"  # the last commit that served the first shipped model
MODELS = ROOT / "runs" / "bench" / "models"
TOLERANCE = 0.02
QUICK_S = 2.0


@dataclass(frozen=True)
class Plan:
    """How long each load runs, and the photos with our graph's own answers to them."""

    seconds: float
    warm_s: float
    photos: Mapping[str, str]
    expected: Mapping[str, Mapping[str, float]]
    models: Path
    bundle: Path
    former: Path | None


@command(epilog="Example: python -m benchmarks.compare --systems ours,fastapi,floor --quick")
@click.option("--systems", "wanted", default="", help="Names with commas, PEER or PEER:FORM; all by default.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option(
    "--seconds", default=8.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Of each load."
)
@click.option("--quick", is_flag=True, help="One round of 2 s loads; judges nothing.")
@click.option("--bundle", default=BUNDLE, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--former", default=FORMER, show_default=True, help="Commit whose models/classroom is the former one.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of JSON and chart; the page stays."
)
@click.option("--list", "listing", is_flag=True, help="Name the systems, and what cannot run here.")
def main(
    wanted: str, rounds: int, seconds: float, quick: bool, bundle: Path, former: str, out: Path | None, listing: bool
) -> None:
    """Measure the systems, in turn."""
    chosen = choose(systems(), wanted)
    if listing:
        for system in chosen:
            click.echo(f"{system.name:32} {system.text}{f' ({why})' if (why := system.absent()) else ''}")
        return
    load.wrk()
    rounds, seconds = (1, QUICK_S) if quick else (rounds, seconds)
    with interruptible(), tempfile.TemporaryDirectory(prefix="bench-") as work_folder:
        tree = tree_of(former, Path(work_folder) / "former") if any(s.name == "former" for s in chosen) else None
        plan = prepare(seconds, bundle, tree)
        measured, absent = measure(chosen, rounds, plan)
        rounds = max(map(len, measured.values()), default=0)
    report = tell(chosen, measured, absent, rounds, plan)
    text = table(chosen, report)
    keep(chosen, report, text, out, whole=not wanted and not quick)
    click.echo(text)
    click.echo(json.dumps(report))
    broken = [str(point) for point in points(report["systems"]) if point.kept is False]
    if broken and not quick:
        raise UserError("; ".join(broken))


def choose(known: Sequence[System], wanted: str) -> list[System]:
    """The systems of `--systems`; a word takes a peer in both forms, `floor` all bare scripts.

    Raises:
        UserError: naming the legal ones.
    """
    words = [word.strip() for word in wanted.split(",") if word.strip()]
    for word in words:
        if not any(_names(word, system) for system in known):
            raise UserError(f"no system {word!r}: take of {', '.join(s.name for s in known)}")
    return [system for system in known if not words or any(_names(word, system) for word in words)]


def _names(word: str, system: System) -> bool:
    return word in (system.name, system.peer) or (word == "floor" and system.bare)


def prepare(seconds: float, bundle: Path, former: Path | None) -> Plan:
    """Models, photos, and what our graph says of them."""
    models.make(MODELS)
    photos = load.photos()
    spec = read_spec(bundle / "recipe.json")
    graph = engine.from_bytes(engine.load(bundle / "model.onnx", spec), spec)
    goldens = {path.name: load.encoded(path.read_bytes()) for path in sorted((bundle / "goldens").glob("*"))}
    every = {**photos, **goldens}
    expected = {
        name: dict(zip(spec.labels, map(float, graph(load.decoded(p))), strict=True)) for name, p in every.items()
    }
    return Plan(seconds, max(seconds / 2, 1.0), every, expected, MODELS, bundle.resolve(), former)


def measure(
    chosen: Sequence[System], rounds: int, plan: Plan
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """All rounds, every other one in reversed order; interrupted, those that are whole.

    Returns:
        measurements by system, and why others have none.
    """
    absent = {system.name: why for system in chosen if (why := system.absent())}
    found: dict[str, list[dict[str, Any]]] = {}
    for number in range(rounds):
        try:
            for system in chosen if number % 2 == 0 else chosen[::-1]:
                if system.name not in absent:
                    click.echo(f"round {number + 1} of {rounds}: {system.name}", err=True)
                    _add(system, plan, number, found, absent)
        except KeyboardInterrupt:
            if not number:
                raise
            click.echo(f"interrupted: {number} whole rounds are told", err=True)
            return {name: rows[:number] for name, rows in found.items()}, absent
    return found, absent


def _add(
    system: System, plan: Plan, number: int, found: dict[str, list[dict[str, Any]]], absent: dict[str, str]
) -> None:
    """One system's round; one that fails is absent from then on."""
    try:
        row = one_round(system, plan)
    except (UserError, requests.RequestException, ValueError) as error:
        reason = error.message if isinstance(error, UserError) else str(error)
        click.echo(f"{system.name}: {reason}", err=True)
        absent[system.name] = f"failed in round {number + 1}: {short(reason)}"
        found.pop(system.name, None)
    else:
        found.setdefault(system.name, []).append(row)


def short(reason: str) -> str:
    """Beginning and end of what went wrong, on one line and without this machine's folders."""
    words = re.sub(r"(?<![\w:/])/\S*/", "", " ".join(reason.split()))
    return words if len(words) <= 200 else f"{words[:80]} ... {words[-115:]}"


def one_round(system: System, plan: Plan) -> dict[str, Any]:
    """One system alone: started, checked, warmed up, loaded, stopped.

    Raises:
        UserError: it does not start, or answers wrongly.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        place = Place(Path(folder), free_ports(), plan.models, plan.bundle, plan.former)
        if system.bare:
            return {name: _bare(system, place, plan, photo) for name, photo in (("one", "small"), ("big", "big"))}
        with running(system, place, plan.photos["small"]) as it:
            names = plan.photos if system.form == work.OURS else ("small", "big")
            expected = {name: right(it, plan, name) for name in names}
            return loads(it, plan, expected["small"], expected["big"])


def loads(it: Running, plan: Plan, small: str, big: str) -> dict[str, Any]:
    """The four loads of a round; `small` and `big` are the labels that count as right."""
    photo, large = plan.photos["small"], plan.photos["big"]
    load.closed(it, photo, small, 8, plan.warm_s)
    it.settle()
    one = load.closed(it, photo, small, 1, plan.seconds)
    eight = load.closed(it, photo, small, 8, plan.seconds)
    it.settle()
    half = load.constant(it, photo, small, eight["rate"] / 2, plan.seconds) if eight["rate"] else None
    memory = it.memory_mb()
    load.closed(it, large, big, 1, plan.warm_s)
    measured = {"one": one, "eight": eight, "half": half, "big": load.closed(it, large, big, 1, plan.seconds)}
    return {"start_s": it.start_s, "memory_mb": memory, "archive_mb": it.archive_mb, **measured}


def right(it: Running, plan: Plan, name: str) -> str:
    """The label that a system gives a photo.

    Raises:
        UserError: with our model, it is another than our graph's, or a probability is.
    """
    answer, expected = it.ask(plan.photos[name], **_detail(it.system)), plan.expected[name]
    given = label(answer)
    if given not in expected:
        raise UserError(f"{it.system.name} answers {given!r}, which is no label")
    if it.system.form == work.OURS and it.system.name != "former":
        scores = answer.get("probabilities", {})
        far = [key for key, score in scores.items() if abs(score - expected[key]) > TOLERANCE]
        if far or given != max(expected, key=lambda key: expected[key]):
            raise UserError(f"{it.system.name} answers {name} by {given} {scores}, our graph says {expected}")
    return given


def _detail(system: System) -> dict[str, Any]:
    """Ask for probabilities where there is a place for it: not in the V2 protocol, nor in the document's chain."""
    return {"detail": True} if "image_base64" in system.request("") and system.form == work.OURS else {}


def _bare(system: System, place: Place, plan: Plan, photo: str) -> dict[str, Any]:
    told = load.bare(system, place, plan.photos[photo], plan.seconds)
    expected = plan.expected[photo]
    if system.form == work.OURS and told["label"] != max(expected, key=lambda key: expected[key]):
        raise UserError(f"{system.name} answers {told['label']}, our graph says {expected}")
    return told


def tell(
    chosen: Sequence[System], measured: Mapping[str, Any], absent: Mapping[str, str], rounds: int, plan: Plan
) -> dict[str, Any]:
    """The report: figures by system, the promises, what is absent and why, the machine, every round as it was."""
    found = summary(measured)
    return {
        "benchmark": "compare",
        "rounds": rounds,
        "seconds": plan.seconds,
        "warm_s": plan.warm_s,
        "cores": len(os.sched_getaffinity(0)),
        "cpu": cpu(),
        "systems": {system.name: found[system.name] for system in chosen if system.name in found},
        "points": as_json(points(found)),
        "absent": dict(absent),
        "measured": dict(measured),
    }


def keep(chosen: Sequence[System], report: dict[str, Any], text: str, out: Path | None, whole: bool) -> None:
    """Write JSON and chart into `out`; without it, after a whole run, the kept ones and docs/benchmarks.md's table."""
    folder = out or (RESULTS if whole else None)
    if folder:
        write_json(folder / "compare.json", report)
        chart(chosen, report["systems"], folder / "compare.png")
    if folder == RESULTS:
        readme = ROOT / "docs" / "benchmarks.md"
        write_whole(readme, between_markers(readme.read_text(encoding="utf-8"), text).encode())


def tree_of(commit: str, folder: Path) -> Path:
    """The files of a commit, unpacked.

    Raises:
        UserError: git does not know it.
    """
    done = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True)
    if done.returncode:
        raise UserError(f"--former {commit}: {done.stderr.decode().strip()}: name a commit of this repository")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def cpu() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1]
    return platform.machine()


if __name__ == "__main__":
    main()
