"""Compare this project with other serving systems, in one run on one machine.

    make bench                                                        # all systems, five rounds
    python -m benchmarks.compare --systems ours,fastapi --quick       # checks that both work; writes no figures

Each round starts one system at a time, warms it up and applies four loads: wrk with 1 client, wrk with 8 clients,
a constant rate of half the throughput with 8 clients, and 1 client with a photo of 4000 x 3000. The systems are listed
in benchmarks/peers/systems.py. Every answer must name a label; a system that runs our model must name the same label
as our graph does in this process. Any other answer counts as an error.

A run of all systems writes benchmarks/results/compare.json, compare.png and the table in docs/benchmarks.md; a run of
some systems writes only into --out. The first shipped model is not measured again: its figures are in
benchmarks/results/former.json. Prints Markdown, and one JSON line last; exits 1 if a bound of the comparison is missed.
"""

import contextlib
import json
import os
import platform
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import requests

from benchmarks.footprint import BUNDLE
from benchmarks.harness.commands import RESULTS
from benchmarks.peers import load, work
from benchmarks.peers.comparison import FORMER, as_json, between_markers, chart, points, read_former, summary, table
from benchmarks.peers.running import Running, free_ports, label, running
from benchmarks.peers.systems import Place, System, systems
from common.cli import command
from common.errors import CheckFailed, InvalidInput, UserError
from common.files import write_json, write_whole
from common.words import number_of
from deploy.host.processes import interruptible
from deploy.settings import ROOT
from handler import engine
from handler.spec import read_spec

MODELS = ROOT / "runs" / "bench" / "models"
PAGE = ROOT / "docs" / "benchmarks.md"
TOLERANCE = 0.02  # of a probability
QUICK_S = 1.0


@dataclass(frozen=True)
class Plan:
    """A plan: seconds of each load, the photos in base64, and the probabilities that our graph gives them."""

    seconds: float
    warm_s: float
    photos: Mapping[str, str]
    expected: Mapping[str, Mapping[str, float]]
    models: Path
    bundle: Path


@command(epilog="Example: python -m benchmarks.compare --systems ours,fastapi,floor --quick")
@click.option("--systems", "names", default="", help="Comma-separated names, PEER or PEER:FORM.  [default: all]")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Rounds to measure.")
@click.option(
    "--seconds", default=8.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Length of each load."
)
@click.option("--quick", is_flag=True, help="One round of 1 s loads; checks no bound.")
@click.option("--bundle", default=BUNDLE, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for JSON and chart; docs/ stays unchanged."
)
@click.option("--list", "listing", is_flag=True, help="List the systems, and why some cannot run here.")
def main(names: str, rounds: int, seconds: float, quick: bool, bundle: Path, out: Path | None, listing: bool) -> None:
    """Measure the systems in turn."""
    chosen = choose(systems(), names)
    if listing:
        for system in chosen:
            click.echo(f"{system.name:32} {system.text}{f' ({why})' if (why := system.absent()) else ''}")
        return
    load.wrk()
    rounds, seconds = (1, QUICK_S) if quick else (rounds, seconds)
    with interruptible():
        plan = prepare(seconds, bundle)
        measured, absent = measure(chosen, rounds, plan)
    report = report_of(chosen, measured, absent, plan)
    text = table(chosen, report)
    save(chosen, report, text, out, complete=not names and not quick)
    click.echo(text)
    click.echo(json.dumps(report))
    missed = [str(point) for point in points(report["systems"]) if point.kept is False]
    if missed and not quick:
        raise CheckFailed("; ".join(missed))


def choose(known: Sequence[System], names: str) -> list[System]:
    """The systems that `--systems` names: PEER selects both forms, `floor` selects all bare scripts.

    Raises:
        InvalidInput: a name is unknown; the message lists the known ones.
    """
    words = [word.strip() for word in names.split(",") if word.strip()]
    for word in words:
        if not any(_names(word, system) for system in known):
            raise InvalidInput(f"no system {word!r}", f"choose from {', '.join(s.name for s in known)}")
    return [system for system in known if not words or any(_names(word, system) for word in words)]


def _names(word: str, system: System) -> bool:
    return word in (system.name, system.peer) or (word == "floor" and system.bare)


def prepare(seconds: float, bundle: Path) -> Plan:
    """Write the models, make the photos, and compute our graph's answers."""
    work.write_models(MODELS)
    photos = load.photos()
    spec = read_spec(bundle / "recipe.json")
    graph = engine.from_bytes(engine.load(bundle / "model.onnx", spec), spec)
    goldens = {path.name: load.encoded(path.read_bytes()) for path in sorted((bundle / "goldens").glob("*"))}
    photos |= goldens
    expected = {
        name: dict(zip(spec.labels, map(float, graph(load.decoded(photo)).probabilities), strict=True))
        for name, photo in photos.items()
    }
    return Plan(seconds, max(seconds / 2, 1.0), photos, expected, MODELS, bundle.resolve())


def measure(
    chosen: Sequence[System], rounds: int, plan: Plan
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Measure all rounds, every second one in reverse order; an interrupt keeps the complete rounds.

    Returns:
        measurements by system; and why each of the other systems has none.
    """
    absent = {system.name: why for system in chosen if (why := system.absent())}
    measured: dict[str, list[dict[str, Any]]] = {}
    for number in range(rounds):
        try:
            for system in chosen if number % 2 == 0 else chosen[::-1]:
                if system.name not in absent:
                    click.echo(f"round {number + 1} of {rounds}: {system.name}", err=True)
                    _add(system, plan, number, measured, absent)
        except KeyboardInterrupt:
            if not number:
                raise
            click.echo(f"interrupted: reporting the {number_of(number, 'complete round')}", err=True)
            return {name: rows[:number] for name, rows in measured.items()}, absent
    return measured, absent


def _add(
    system: System, plan: Plan, number: int, measured: dict[str, list[dict[str, Any]]], absent: dict[str, str]
) -> None:
    """Add one round of a system; a system that fails is left out from then on."""
    try:
        row = one_round(system, plan)
    except (UserError, requests.RequestException, ValueError) as error:
        reason = error.message if isinstance(error, UserError) else str(error)
        click.echo(f"{system.name}: {reason}", err=True)
        absent[system.name] = f"failed in round {number + 1}: {short(reason)}"
        measured.pop(system.name, None)
    else:
        measured.setdefault(system.name, []).append(row)


def short(reason: str) -> str:
    """Beginning and end of an error message, on one line and without this machine's folders."""
    words = re.sub(r"(?<![\w:/])/\S*/", "", " ".join(reason.split()))
    return words if len(words) <= 200 else f"{words[:80]} ... {words[-115:]}"


def one_round(system: System, plan: Plan) -> dict[str, Any]:
    """Start one system alone, check its answers, warm it up, apply the loads, and stop it.

    Raises:
        UserError: it does not start, or an answer is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        place = Place(Path(folder), free_ports(), plan.models, plan.bundle)
        if system.bare:
            return {name: _bare(system, place, plan, photo) for name, photo in (("one", "small"), ("big", "big"))}
        with running(system, place, plan.photos["small"]) as server:
            names = plan.photos if system.form == work.OURS else ("small", "big")
            labels = {name: checked_label(server, plan, name) for name in names}
            return loads(server, plan, labels["small"], labels["big"])


def loads(server: Running, plan: Plan, small: str, big: str) -> dict[str, Any]:
    """Apply the four loads of a round; `small` and `big` are the labels that count as correct."""
    photo, large = plan.photos["small"], plan.photos["big"]
    load.closed(server, photo, small, 8, plan.warm_s)
    server.settle()
    one = load.closed(server, photo, small, 1, plan.seconds)
    eight = load.closed(server, photo, small, 8, plan.seconds)
    server.settle()
    half = load.constant(server, photo, small, eight["rate"] / 2, plan.seconds) if eight["rate"] else None
    memory = server.memory_mb()
    load.closed(server, large, big, 1, plan.warm_s)
    figures = {"one": one, "eight": eight, "half": half, "big": load.closed(server, large, big, 1, plan.seconds)}
    return {"start_s": server.start_s, "memory_mb": memory, "archive_mb": server.archive_mb, **figures}


def checked_label(server: Running, plan: Plan, name: str) -> str:
    """The label that a system gives a photo.

    Raises:
        CheckFailed: it is not a label; or the system runs our model and label or probabilities differ from our graph's.
    """
    system, expected = server.system, plan.expected[name]
    answer = server.ask(plan.photos[name], **_detail(system))
    predicted = label(answer)
    if predicted not in expected:
        raise CheckFailed(f"{system.name} answers {predicted!r}, which is not a label")
    if system.form == work.OURS:
        scores = answer.get("probabilities", {})
        differs = any(abs(score - expected[key]) > TOLERANCE for key, score in scores.items())
        if differs or predicted != max(expected, key=lambda key: expected[key]):
            raise CheckFailed(f"{system.name} answers {predicted} {scores} for {name}; our graph computes {expected}")
    return predicted


def _detail(system: System) -> dict[str, Any]:
    """Request probabilities where the protocol allows it: not by V2, nor from the classroom document's services."""
    return {"detail": True} if "image_base64" in system.request("") and system.form == work.OURS else {}


def _bare(system: System, place: Place, plan: Plan, photo: str) -> dict[str, Any]:
    figures = load.bare(system, place, plan.photos[photo], plan.seconds)
    expected = plan.expected[photo]
    if system.form == work.OURS and figures["label"] != max(expected, key=lambda key: expected[key]):
        raise CheckFailed(f"{system.name} answers {figures['label']}; our graph computes {expected}")
    return figures


def report_of(
    chosen: Sequence[System], measured: Mapping[str, Sequence[Mapping[str, Any]]], absent: Mapping[str, str], plan: Plan
) -> dict[str, Any]:
    """Figures and bounds, missing systems with reasons, the machine, and the measurements of every round."""
    figures = summary(measured)
    ordered = {system.name: figures[system.name] for system in chosen if system.name in figures}
    if "ours" in ordered:
        ordered[FORMER] = read_former()["figures"]
    return {
        "benchmark": "compare",
        "rounds": max(map(len, measured.values()), default=0),
        "seconds": plan.seconds,
        "warm_s": plan.warm_s,
        "cores": len(os.sched_getaffinity(0)),
        "cpu": cpu(),
        "systems": ordered,
        "points": as_json(points(ordered)),
        "absent": dict(absent),
        "measured": dict(measured),
    }


def save(chosen: Sequence[System], report: dict[str, Any], text: str, out: Path | None, complete: bool) -> None:
    """Write JSON and chart into `out`; without it a complete run replaces the kept ones and the table in docs/."""
    folder = out or (RESULTS if complete else None)
    if folder:
        write_json(folder / "compare.json", report)
        chart(chosen, report["systems"], (PAGE.parent / "images" if folder == RESULTS else folder) / "compare.png")
    if folder == RESULTS:
        write_whole(PAGE, between_markers(PAGE.read_text(encoding="utf-8"), text).encode())


def cpu() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if match := re.search(r"^model name\s*:\s*(.*)$", lines, re.MULTILINE):
            return match[1]
    return platform.machine()


if __name__ == "__main__":
    main()
