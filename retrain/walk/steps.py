"""The eight steps: the command of each, what it reads, and what it leaves."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import NotFound, UserError
from config.recipe import Recipe
from dataset.labelling.decisions import Labelling
from dataset.listing import list_files
from dataset.photos import TABLE as SOURCES
from dataset.photos import is_labelled, split_parts
from dataset.tables import read_rows, refused_by
from deploy.settings import ROOT, read_settings
from deploy.store import desired
from deploy.store.mar import next_version, read_manifest
from handler.spec import read_spec
from training.records.index import latest_run
from training.records.run import GRAPH, RECIPE, RUN, read_record

STEPS = ("audit", "label", "split", "train", "prune", "evaluate", "export", "archive")
NO_RIVAL = "none"


@dataclass(frozen=True)
class Request:
    """What a person asked for; None and empty keep the defaults of the commands.

    Attributes:
        name: the recipe as it was given, a name or a path.
        labels: a table of labels that exists already.
        skip: names of steps.
    """

    photos: Path
    name: str
    recipe: Recipe
    root: Path
    labels: Path | None = None
    extra: tuple[Path, ...] = ()
    outside: tuple[Path, ...] = ()
    skip: tuple[str, ...] = ()
    share: float | None = None
    source_from: str | None = None
    few_sources: bool = False
    epochs: int | None = None
    against: str | None = None
    version: str | None = None

    @property
    def folder(self) -> Path:
        """Where this walk keeps its record and its tables; another folder of photos has another."""
        places = [str(path.resolve()) for path in (self.photos, self.labels) if path]
        return self.root / self.recipe.name / "retrain" / f"{self.photos.resolve().name[:40]}-{_digest(places)[:8]}"


@dataclass(frozen=True)
class Step:
    """A step that is about to run.

    Attributes:
        words: its command; empty where there is nothing to do.
        inputs: a digest of what it reads.
        output: what it has left since a time (seconds since 1970); None if it has not finished.
        note: why there is nothing to do.
    """

    words: tuple[str, ...] = ()
    inputs: str = ""
    output: Callable[[float], Path | None] = lambda started: None
    note: str = ""


@dataclass
class Plan:
    """The steps of one walk, each made when those before it are done; `done` holds what they left."""

    request: Request
    done: dict[str, Path] = field(default_factory=dict)

    def step(self, name: str) -> Step:
        """The step of this name. Raises: UserError: something that it needs is missing."""
        make: Callable[[], Step] = getattr(self, f"_{name}")
        return make()

    @property
    def data(self) -> Path:
        """What is trained on: the split; or the photos, if they are split already or `split` is skipped."""
        return self.done.get("split") or self._labelled

    @property
    def run(self) -> Path:
        """The newest run of this walk; where training is skipped, the newest of the recipe."""
        made = self.done.get("prune") or self.done.get("train")
        return made or latest_run("latest", ("train", "prune"), self.request.root, self.request.recipe.name)

    @property
    def _labelled(self) -> Path:
        asked = self.request
        if asked.labels:
            return asked.labels
        return asked.photos if _has_labels(asked) else asked.photos / "labels.tsv"

    @property
    def _data_words(self) -> list[str]:
        return ["--data", str(self.data)]

    @property
    def _extra_words(self) -> list[str]:
        return [word for path in self.request.extra for word in ("--extra", str(path))]

    @property
    def _outside_words(self) -> list[str]:
        return [word for path in self.request.outside for word in ("--outside", str(path))]

    @property
    def _epochs_words(self) -> list[str]:
        return _option("--epochs", self.request.epochs)

    def _audit(self) -> Step:
        asked, table = self.request, self.request.folder / "audit.tsv"
        words = ("dataset", "audit", str(asked.photos), "--recipe", asked.name, "--out", str(table))
        return Step(words, _listing(asked.photos), lambda started: _if_written(table, started))

    def _label(self) -> Step:
        asked = self.request
        if asked.labels:
            return Step(note=f"the labels are in {asked.labels}")
        if _has_labels(asked):
            return Step(note=f"the labels are the folders of {asked.photos}")
        table, audit = asked.photos / "labels.tsv", self.done.get("audit")
        if not self.undecided():
            return Step(note=f"all photos have a label in {table}")
        words = ["dataset", "label", str(asked.photos), "--recipe", asked.name, *_option("--audit", audit)]
        # Never taken from the record: as long as photos are undecided, the page opens again.
        return Step((*words, "--until-done"), "", lambda started: None if self.undecided() else table)

    def undecided(self) -> int:
        """Photos that still need a label."""
        asked = self.request
        table, refused = asked.photos / "labels.tsv", refused_by(self.done.get("audit"))
        return Labelling(asked.photos, table, asked.recipe.labels, refused=refused).progress().left

    def _split(self) -> Step:
        asked, place, table = self.request, self._labelled, self.request.folder / "split.tsv"
        if _is_split(place, asked.recipe):
            return Step(note=f"{place} is split already")
        audit = self.done.get("audit")
        words = ["dataset", "split", str(place), "--recipe", asked.name, "--out", str(table)]
        words += [*_option("--audit", audit), *_option("--train", asked.share)]
        words += [*_option("--source-from", asked.source_from), *(["--few-sources"] if asked.few_sources else [])]
        beside = (place if place.is_dir() else place.parent) / SOURCES
        inputs = _digest([_content(path) for path in (place, beside, audit) if path])
        return Step(tuple(words), inputs, lambda started: _if_written(table, started))

    def _train(self) -> Step:
        asked = self.request
        words = ["training", "train", asked.name, *self._data_words, *self._extra_words]
        words += [*self._outside_words, *self._epochs_words, "--runs", str(asked.root)]
        return Step(tuple(words), self._training_inputs(), lambda started: self._made(words, started))

    def _prune(self) -> Step:
        words = ["training", "prune", str(self.run), *self._data_words, *self._extra_words]
        words += [*self._outside_words, *self._epochs_words, "--runs", str(self.request.root)]
        return Step(tuple(words), self._training_inputs(), lambda started: self._made(words, started))

    def _training_inputs(self) -> str:
        asked = self.request
        places = (self.data, *asked.extra, *asked.outside)
        return _digest([asked.recipe.model_dump(mode="json"), *map(_content, places)])

    def _made(self, words: list[str], started: float) -> Path | None:
        """The complete run that this command has made since a time, also if the walk was killed meanwhile."""
        arguments = [os.path.relpath(word) if word.startswith("/") else word for word in words[1:]]
        folder = self.request.root / self.request.recipe.name
        for path in sorted(folder.glob(f"*-{words[1]}*/{RUN}"), reverse=True):
            if path.stat().st_mtime >= started and read_record(path.parent).origin.arguments == arguments:
                return path.parent
        return None

    def _evaluate(self) -> Step:
        rival = self.rival()
        words = ("training", "evaluate", str(self.run), *self._data_words, *_option("--against", rival))
        report = self.run / "evaluation" / "report.html"
        return Step(words, _content(self.data), lambda started: _if_written(report, started))

    def rival(self) -> str | None:
        """What the new model is compared with; None: nothing.

        As asked, or else the version that is served, or else the shipped model of the recipe, which `make serve` would
        serve if the store had no newer one.
        """
        asked, shipped = self.request, ROOT / "models" / self.request.recipe.name
        if asked.against:
            return None if asked.against == NO_RIVAL else asked.against
        if served := self.served():
            return os.path.relpath(served)
        if (shipped / GRAPH).is_file() and read_spec(shipped / RECIPE).labels == asked.recipe.labels:
            return os.path.relpath(shipped)
        return None

    def served(self) -> Path | None:
        """The archive of the version that is served, or will be when the server starts again; None if there is none."""
        settings = read_settings()
        served = desired.default_of(desired.read(settings.var), self.request.recipe.name)
        archive = settings.store / served.archive if served else None
        return archive if archive and archive.is_file() else None

    def _export(self) -> Step:
        bundle = self.run / "bundle"
        words = ("training", "export", str(self.run), *self._data_words)
        return Step(words, "", lambda started: bundle if (bundle / RUN).is_file() else None)

    def _archive(self) -> Step:
        asked, store, bundle = self.request, read_settings().store, self.run / "bundle"
        if not (bundle / RUN).is_file():
            raise NotFound(f"{bundle} does not exist", "do not skip export")
        packed = _packed(store, asked.recipe.name, self.run.name, asked.version)
        version = asked.version or (packed and packed.stem.rpartition("-")[2]) or next_version(store, asked.recipe.name)
        words = ("deploy", "archive", str(bundle), version)
        return Step(words, "", lambda started: _packed(store, asked.recipe.name, self.run.name, version))


def _packed(store: Path, name: str, run: str, version: str | None) -> Path | None:
    """The archive of a run in the store, if it has been packed."""
    for mar in sorted(store.glob(f"{name}-{version or '*'}.mar")):
        try:
            if read_manifest(mar).run == run:
                return Path(os.path.relpath(mar))
        except UserError:
            continue
    return None


def _has_labels(asked: Request) -> bool:
    return is_labelled(asked.photos, asked.recipe.labels, asked.recipe.aliases)


def _is_split(place: Path, recipe: Recipe) -> bool:
    if place.is_dir():
        return bool(split_parts(place, recipe.labels, recipe.aliases))
    return any(row.get("split") for row in read_rows(place, ("path", "label")))


def _option(name: str, value: object | None) -> list[str]:
    return [] if value is None else [name, str(value)]


def _if_written(path: Path, started: float) -> Path | None:
    return path if path.is_file() and path.stat().st_mtime >= started else None


def _content(path: Path) -> str:
    """A digest of a table's bytes, or of a folder's names, sizes and times."""
    if path.is_dir():
        return _listing(path)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _listing(folder: Path) -> str:
    files = ((path, path.stat()) for path in list_files(folder, links=True).files)
    return _digest([[str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns] for path, stat in files])


def _digest(content: Iterable[object]) -> str:
    return hashlib.sha256(json.dumps(list(content), sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()
