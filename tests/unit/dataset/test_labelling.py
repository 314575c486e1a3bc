"""Labelling: no decision is lost, even if several people label at once or the server is killed."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize

import pytest
import requests
from click.testing import CliRunner
from PIL import Image

import dataset.tables
from common.commands import pasteable
from common.errors import NotFound, UserError
from config.recipe import read_recipe
from dataset.label import label as label_command
from dataset.label import locked
from dataset.labelling.assignments import LEASE, AssignmentQueue
from dataset.labelling.class_folders import ClassFolders
from dataset.labelling.decisions import Conflict, Labelling
from dataset.labelling.entries import COLUMNS, Decision
from dataset.labelling.outside import TableInvalid
from dataset.labelling.suggestions import Suggestion, Suggestions
from dataset.photos import counts, read_photos
from dataset.tables import read_rows
from deploy.settings import ROOT
from tests.helpers.commands import SHAPES, SHIPPED, command
from tests.helpers.labelling import ANN, BEN, numbered, photos, serving, table

LABELS = read_recipe(SHAPES).labels
Form = Literal["NFC", "NFD"]


def labelling(folder: Path, copies: ClassFolders | None = None) -> Labelling:
    work = Labelling(folder, folder / "labels.tsv", LABELS, copies)
    work.begin()
    return work


def assignments(folder: Path, clock: Sequence[float] = (0.0,)) -> AssignmentQueue:
    return AssignmentQueue(labelling(folder), lambda index: (0, 0.0), lambda: clock[0])


# The table


def test_every_decision_is_written_and_read_photos_reads_the_table(tmp_path: Path) -> None:
    photos(tmp_path, "a.png", "sub/b.png", "sub/c.png", "d.png")
    (tmp_path / "SOURCES.tsv").write_text("path\tsource\nsub/b.png\tschool\n")
    work = labelling(tmp_path)
    for index, decision in enumerate([Decision(LABELS[0]), Decision("", "broken"), Decision(LABELS[1])]):
        work.decide(index, 0, decision, "ann")
        assert len([value for value in table(tmp_path).values() if value]) == index + 1
    work.decide(3, 0, Decision(LABELS[2]), "ben")
    assert (tmp_path / "labels.tsv").read_text().splitlines()[0].split("\t") == list(COLUMNS)
    read = read_photos(tmp_path / "labels.tsv", LABELS)
    assert {(photo.path.relative_to(tmp_path).as_posix(), photo.label, photo.source) for photo in read} == {
        ("a.png", 0, "a.png"),
        ("sub/b.png", 1, "school"),
        ("sub/c.png", 2, "sub/c.png"),
    }
    rows = {row["path"]: row for row in read_rows(tmp_path / "labels.tsv")}
    assert rows["d.png"]["set_aside"] == "broken"
    assert rows["d.png"]["label"] == ""
    assert rows["sub/c.png"]["labelled_by"] == "ben"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", rows["a.png"]["labelled_at"])


def test_labelling_continues_and_keeps_unknown_rows_and_columns(tmp_path: Path) -> None:
    numbered(tmp_path, 3)
    labelling(tmp_path).decide(1, 0, Decision(LABELS[2]), "ann")
    text = (tmp_path / "labels.tsv").read_text().splitlines()
    text = [text[0] + "\tnote", *(line + "\tmine" for line in text[1:]), f"gone.png\t{LABELS[0]}\t\tx\tbo\t\tmine"]
    (tmp_path / "labels.tsv").write_text("\n".join(text) + "\n")
    again = labelling(tmp_path)
    assert str(again.progress()) == "1 of 3 labelled, 0 set aside"
    again.decide(0, 0, Decision(LABELS[0]), "ben")
    rows = read_rows(tmp_path / "labels.tsv")
    assert [row["path"] for row in rows] == ["000.png", "001.png", "002.png", "gone.png"]
    assert [row["label"] for row in rows] == [LABELS[0], LABELS[2], "", LABELS[0]]
    assert {row["note"] for row in rows} == {"mine"}


def test_a_table_elsewhere_has_paths_relative_to_itself(tmp_path: Path) -> None:
    photos(tmp_path / "photos", "a.png", "sub/b.png", "c.png")
    place = tmp_path / "tables" / "mine.tsv"
    work = Labelling(tmp_path / "photos", place, LABELS)
    for index, label in enumerate(LABELS):
        work.decide(index, 0, Decision(label), "ann")
    assert read_rows(place)[0]["path"] == "../photos/a.png"
    assert all(photo.path.is_file() for photo in read_photos(place, LABELS))


def test_hidden_files_and_tables_are_ignored_and_unusual_names_are_kept(tmp_path: Path) -> None:
    photos(tmp_path, "b.png", ".hidden/a.png", 'tab\there "q".png', "ä/é.png")
    (tmp_path / "notes.TSV").write_text("x")
    (tmp_path / ".DS_Store").write_text("x")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).write_text("no photo, but a person should see it")
    work = labelling(tmp_path)
    assert [entry.name for entry in work.entries] == sorted(["b.png", 'tab\there "q".png', "ä/é.png", "\udcff.jpg"])
    for index in range(4):
        work.decide(index, 0, Decision(LABELS[0]), "ann")
    assert labelling(tmp_path).progress().labelled == 4


@pytest.mark.parametrize(("name", "fix"), [("labels.csv", "save labels.csv as tab"), ("new.csv", "give {}/new.tsv")])
def test_a_table_of_another_kind_is_refused_with_the_way_to_convert_it(tmp_path: Path, name: str, fix: str) -> None:
    (tmp_path / "labels.csv").touch()
    words = [str(tmp_path), "--recipe", str(SHAPES), "--no-model", "--table", str(tmp_path / name)]
    output = CliRunner().invoke(label_command, words).output
    assert f"tables are separated by tabs: {fix.format(tmp_path)}" in output


def test_an_audit_of_other_photos_is_refused(tmp_path: Path) -> None:
    numbered(tmp_path / "in", 2)
    (tmp_path / "audit.tsv").write_text("path\tverdict\n000.png\tok\n")
    words = ["--recipe", str(SHAPES), "--no-model", "--check", "--audit", str(tmp_path / "audit.tsv")]
    done = CliRunner().invoke(label_command, [str(tmp_path / "in"), *words])
    assert done.exit_code == 1
    assert "audit.tsv lists none of the 2 photos: give the table of their audit" in done.output


@pytest.mark.parametrize("written", ["{}/é.png", "./é.png", "../in/é.png"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_row_is_found_under_another_spelling_of_its_path(tmp_path: Path, written: str, form: Form) -> None:
    folder = photos(tmp_path / "in", normalize("NFC", "é.png"), "b.png")
    path = normalize(form, written.format(folder))
    (folder / "labels.tsv").write_text(f"path\tlabel\n{path}\t{LABELS[0]} \n", encoding="utf-8")
    (folder / "SOURCES.tsv").write_text(f"path\tsource\n{normalize(form, './é.png')}\tx\n", encoding="utf-8")
    work = labelling(folder)
    assert str(work.progress()) == "1 of 2 labelled, 0 set aside"
    assert [(row["path"], row["source"]) for row in read_rows(folder / "labels.tsv")] == [(path, "x"), ("b.png", "")]


def test_two_names_that_differ_in_how_accents_are_stored(tmp_path: Path) -> None:
    names = [normalize(form, "é.png") for form in ("NFC", "NFD")]
    photos(tmp_path, *names)
    labelling(tmp_path).decide(0, 0, Decision(LABELS[0]), "ann")
    assert str(labelling(tmp_path).progress()) == "1 of 2 labelled, 0 set aside"
    (tmp_path / names[1]).unlink()
    with pytest.raises(UserError, match="there are two rows for this photo: delete one, they differ in how accents"):
        labelling(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path\n0.png\n", "no column label"),
        ("path\tlabel\n000.png\tsquare\n", f"000.png: unknown label square: use one of {', '.join(LABELS)}"),
        ("path\tlabel\n000.png\t\n./000.png\t\n", "there are two rows for this photo: delete one"),
        ("path\tlabel\tset_aside\n000.png\t\tlater\n", "set_aside is later: use one of broken, unclear"),
        (f"path\tlabel\tset_aside\n000.png\t{LABELS[0]}\tbroken\n", "both label and set_aside have a value"),
        ("path\tlabel\n000.png\t\tmore\n", "more cells than the table has columns"),
    ],
)
def test_an_invalid_table_is_refused_and_left_unchanged(tmp_path: Path, text: str, words: str) -> None:
    (numbered(tmp_path, 2) / "labels.tsv").write_text(text)
    with pytest.raises(UserError, match=re.escape(words)):
        labelling(tmp_path)
    assert (tmp_path / "labels.tsv").read_text() == text


def rewrite(table: Path, *changes: tuple[str, str]) -> None:
    """Change the table as another program does: in place, with another content."""
    text = table.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    table.write_text(text)


def test_a_table_that_another_program_changed_is_read_again_and_its_changes_are_kept(tmp_path: Path) -> None:
    work = labelling(numbered(tmp_path, 4))
    work.decide(0, 0, Decision(LABELS[0]), "ann")
    rewrite(tmp_path / "labels.tsv", ("001.png\t", f"001.png\t{LABELS[2]}"), (f"\t{LABELS[0]}\t", f"\t{LABELS[1]}\t"))
    photos(tmp_path, "0.png")
    with pytest.raises(Conflict, match=f"ann chose {LABELS[1]}"):
        work.decide(0, 1, Decision(LABELS[2]), "ann")
    with pytest.raises(Conflict):
        work.decide(1, 0, Decision(LABELS[0]), "ann")
    work.decide(2, 0, Decision("", "broken"), "ann")
    expected = {"000.png": LABELS[1], "001.png": LABELS[2], "002.png": "broken", "003.png": "", "0.png": ""}
    assert table(tmp_path) == expected
    assert work.entries[4].name == "0.png"  # a new photo comes last: the indices of the others stay
    assert "read again" in work.notice


def test_decisions_that_the_other_program_did_not_know_of_are_kept(tmp_path: Path) -> None:
    """Somebody opens the table in a spreadsheet, others go on labelling, then the spreadsheet is saved."""
    copies = ClassFolders(tmp_path / "out", tmp_path / "in", LABELS)
    work = labelling(numbered(tmp_path / "in", 3), copies)
    work.decide(0, 0, Decision(LABELS[0]), "ann")
    place = tmp_path / "in" / "labels.tsv"
    opened = place.read_text()
    work.decide(0, 1, Decision(LABELS[1]), "ann")
    work.decide(1, 0, Decision(LABELS[1]), "ann")
    place.write_text(opened.replace("002.png\t", f"002.png\t{LABELS[2]}"))
    work.refresh()
    expected = {"000.png": LABELS[1], "001.png": LABELS[1], "002.png": LABELS[2]}
    assert table(tmp_path / "in") == expected
    assert "1 photo changed, 2 later decisions of this page were kept" in work.notice
    assert {path.parent.name: path.name for path in (tmp_path / "out").rglob("002.png")} == {LABELS[2]: "002.png"}


def test_an_invalid_change_by_another_program_makes_decisions_wait(tmp_path: Path) -> None:
    work = labelling(numbered(tmp_path, 2))
    work.decide(0, 0, Decision(LABELS[0]), "ann")
    good = (tmp_path / "labels.tsv").read_text()
    rewrite(tmp_path / "labels.tsv", (f"\t{LABELS[0]}\t", "\tsquare\t"))
    bad = (tmp_path / "labels.tsv").read_bytes()
    for _ in range(2):
        with pytest.raises(TableInvalid, match=r"another program has changed the table; .*unknown label square"):
            work.decide(1, 0, Decision(LABELS[0]), "ann")
    assert (tmp_path / "labels.tsv").read_bytes() == bad
    (tmp_path / "labels.tsv").write_text(good)
    work.decide(1, 0, Decision(LABELS[1]), "ann")
    assert table(tmp_path) == {"000.png": LABELS[0], "001.png": LABELS[1]}


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = ClassFolders(tmp_path / "out", tmp_path / "in", LABELS)
    work = labelling(numbered(tmp_path / "in", 2), copies)
    before = (tmp_path / "in" / "labels.tsv").read_bytes()

    def full(path: Path, *_: object) -> None:
        if path.name == "labels.tsv":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataset.tables, "write_whole", full)
    with pytest.raises(UserError, match=r"labels.tsv cannot be written: No space left.*--table"):
        work.decide(0, 0, Decision(LABELS[0]), "ann")
    assert work.entries[0].undecided
    assert work.entries[0].revision == 0
    assert (tmp_path / "in" / "labels.tsv").read_bytes() == before
    assert not list((tmp_path / "out").rglob("*.png"))
    monkeypatch.undo()
    work.decide(0, 0, Decision(LABELS[0]), "ann")
    assert (tmp_path / "out" / LABELS[0] / "000.png").is_file()


def test_a_photo_that_is_gone_gets_no_label_but_can_be_set_aside(tmp_path: Path) -> None:
    work = labelling(numbered(tmp_path, 2))
    (tmp_path / "000.png").unlink()
    with pytest.raises(NotFound, match=r"there is no file 000\.png any more: put it back, or set the photo aside"):
        work.decide(0, 0, Decision(LABELS[0]), "ann")
    assert work.entries[0].undecided
    work.decide(0, 0, Decision(set_aside="broken"), "ann")
    assert table(tmp_path) == {"000.png": "broken", "001.png": ""}


def test_a_folder_that_was_renamed_is_not_made_again(tmp_path: Path) -> None:
    work = labelling(numbered(tmp_path / "in", 1))
    (tmp_path / "in").rename(tmp_path / "out")
    with pytest.raises(NotFound, match=r"there is no folder .*/in any more: name it as before"):
        work.decide(0, 0, Decision(set_aside="broken"), "ann")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# Class folders


def test_class_folders_follow_the_table_and_names_do_not_collide(tmp_path: Path) -> None:
    photos(tmp_path / "in", "a/1.png", "b/1.png", "c/1.png", "d/1.png")
    (tmp_path / "in" / "SOURCES.tsv").write_text("path\tsource\na/1.png\tschool\n")
    out = tmp_path / "in" / "out"  # may also be inside the folder: copies are not listed as photos
    work = labelling(tmp_path / "in", ClassFolders(out, tmp_path / "in", LABELS))
    for index, label in enumerate([LABELS[0], LABELS[0], LABELS[1], LABELS[2]]):
        work.decide(index, 0, Decision(label), "ann")
    assert (out / LABELS[0] / "b" / "1.png").read_bytes() == (tmp_path / "in" / "b" / "1.png").read_bytes()
    read = read_photos(out, LABELS)
    assert counts(read, LABELS) == {LABELS[0]: 2, LABELS[1]: 1, LABELS[2]: 1}
    assert sorted(photo.source for photo in read) == ["b/1.png", "c/1.png", "d/1.png", "school"]
    work.decide(0, 1, Decision(LABELS[1]), "ben")
    work.decide(1, 1, Decision("", "unclear"), "ben")
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png")) == sorted(
        [f"{LABELS[1]}/a/1.png", f"{LABELS[1]}/c/1.png", f"{LABELS[2]}/d/1.png", "set_aside/unclear/b/1.png"]
    )
    assert len(read_photos(out, LABELS[1:])) == 3
    work.decide(1, 2, Decision("", "broken"), "ben")
    assert [path.parts[-4:] for path in (out / "set_aside").rglob("*.png")] == [("set_aside", "broken", "b", "1.png")]
    assert len(labelling(tmp_path / "in", ClassFolders(out, tmp_path / "in", LABELS)).entries) == 4


def test_class_folders_are_corrected_at_the_start_and_other_files_are_kept(tmp_path: Path) -> None:
    work = labelling(numbered(tmp_path / "in", 2))
    work.decide(0, 0, Decision(LABELS[0]), "ann")
    out = tmp_path / "out"
    photos(out, f"{LABELS[1]}/other.png")
    (out / LABELS[1] / "000.png").write_bytes((tmp_path / "in" / "000.png").read_bytes())  # of a crash
    (out / LABELS[2]).mkdir()
    (out / LABELS[2] / "001.png").write_bytes(b"another picture")
    again = labelling(tmp_path / "in", ClassFolders(out, tmp_path / "in", LABELS))
    kept = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert kept == sorted([f"{LABELS[0]}/000.png", f"{LABELS[1]}/other.png", f"{LABELS[2]}/001.png"])
    with pytest.raises(UserError, match=r"is a different image from .*: give another --folders"):
        again.decide(1, 0, Decision(LABELS[2]), "ann")
    assert again.entries[1].undecided
    assert (out / LABELS[2] / "001.png").read_bytes() == b"another picture"


def test_class_folders_are_not_written_over_the_photos(tmp_path: Path) -> None:
    for out in (tmp_path, tmp_path / "in"):
        with pytest.raises(UserError, match="contains the photos: give another folder"):
            ClassFolders(out, tmp_path / "in", LABELS)


# Two people


def test_two_clients_get_two_photos_until_a_lease_runs_out(tmp_path: Path) -> None:
    clock = [0.0]
    both = assignments(numbered(tmp_path, 2), clock)
    assert (both.next(ANN).index, both.next(BEN).index) == (0, 1)
    assert both.next("eve-0000").index is None
    assert both.next("eve-0000").leased_by_others == 2
    clock[0] = LEASE - 1
    assert both.renew(ANN, 0)
    clock[0] = LEASE + 1
    assignment = both.next("eve-0000")
    assert (assignment.index, assignment.leased_by_others) == (1, 1)
    assert not both.renew(BEN, 1)
    assert both.next(BEN).index is None


def test_a_second_decision_is_refused_and_the_message_names_the_first(tmp_path: Path) -> None:
    both = assignments(numbered(tmp_path, 2))
    both.decide(ANN, 0, 0, Decision(LABELS[0]), "ann")
    with pytest.raises(Conflict, match=f"ann chose {LABELS[0]} in the meantime; your decision was not saved") as caught:
        both.decide(BEN, 0, 0, Decision(LABELS[1]), "ben")
    assert (caught.value.who, caught.value.what.label) == ("ann", LABELS[0])
    assert table(tmp_path)["000.png"] == LABELS[0]
    both.undo(ANN)
    with pytest.raises(Conflict, match="somebody undid the decision"):
        both.decide(BEN, 0, 1, Decision(LABELS[1]), "ben")
    assert table(tmp_path)["000.png"] == ""


def test_undo_applies_only_to_decisions_of_the_same_client(tmp_path: Path) -> None:
    both = assignments(numbered(tmp_path, 4))
    both.decide(ANN, 0, 0, Decision(LABELS[0]), "ann")
    both.decide(ANN, 1, 0, Decision("", "unclear"), "ann")
    both.decide(BEN, 2, 0, Decision(LABELS[1]), "ben")
    name, assignment = both.undo(ANN)
    assert (name, assignment.index) == ("001.png", 1)
    assert both.undo(ANN)[0] == "000.png"
    with pytest.raises(LookupError, match="nothing to undo"):
        both.undo(ANN)
    assert table(tmp_path) == {"000.png": "", "001.png": "", "002.png": LABELS[1], "003.png": ""}
    assert read_rows(tmp_path / "labels.tsv")[0]["labelled_by"] == ""


def test_decisions_can_be_undone_after_a_restart(tmp_path: Path) -> None:
    first = assignments(numbered(tmp_path, 3))
    first.decide(ANN, 0, 0, Decision(LABELS[0]), "ann")
    first.decide(ANN, 0, 1, Decision(LABELS[1]), "ann")
    first.decide(BEN, 1, 0, Decision(LABELS[2]), "ben")
    rewrite(tmp_path / "labels.tsv", (f"\t{LABELS[2]}\t", f"\t{LABELS[0]}\t"))
    second = assignments(tmp_path)
    with pytest.raises(LookupError):  # what another program changed meanwhile is not undone
        second.undo(BEN, "ben")
    with pytest.raises(LookupError):
        second.undo("new-0000", "eve")
    assert second.undo("new-0000", "ann")[0] == "000.png"  # a new tab of the same person
    assert table(tmp_path)["000.png"] == LABELS[0]
    second.decide("new-0000", 2, 0, Decision(LABELS[0]), "ann")
    third = assignments(tmp_path)
    assert third.undo("new-0000", "ann")[0] == "002.png"
    assert third.undo(ANN, "ann")[0] == "000.png"
    assert table(tmp_path) == {"000.png": "", "001.png": LABELS[0], "002.png": ""}
    with pytest.raises(LookupError, match="nothing to undo"):
        third.undo(ANN, "ann")


def test_a_damaged_history_does_not_stop_the_labelling(tmp_path: Path) -> None:
    (numbered(tmp_path, 1) / ".labels.tsv.undo").write_bytes(b'{"client": 1}\n\xff')
    queue = assignments(tmp_path)
    queue.decide(ANN, 0, 0, Decision(LABELS[0]), "ann")
    assert queue.undo(ANN, "ann")[0] == "000.png"


def test_photos_are_found_by_words_and_by_decision(tmp_path: Path) -> None:
    photos(tmp_path, "a/Tür 1.png", "a/tür 2.png", "b/Tu\u0308r 3.png")
    (tmp_path / "SOURCES.tsv").write_text("path\tsource\na/tür 2.png\tSchool\n")
    queue = assignments(tmp_path)
    queue.decide(ANN, 0, 0, Decision(LABELS[0]), "ann")
    queue.decide(ANN, 1, 0, Decision("", "unclear"), "ben")
    found = [
        queue.find(*words)
        for words in (("TÜR", ""), ("a/ 1", ""), ("school", ""), ("ben", ""), ("none", ""), ("", "undecided"))
    ]
    assert found == [[0, 1, 2], [0], [1], [1], [], [2]]
    assert [queue.find("", kind) for kind in (f"label:{LABELS[0]}", "aside:unclear", "label:none")] == [[0], [1], []]


def test_the_time_left_is_the_median_pace_of_those_at_work(tmp_path: Path) -> None:
    clock = [0.0]
    queue = assignments(numbered(tmp_path, 30), clock)
    for index in range(6):
        assert queue.seconds_left() is None
        queue.decide(ANN, index, 0, Decision(LABELS[0]), "ann")
        clock[0] += 4 if index != 2 else 60  # one slow photo changes little
    assert queue.seconds_left() == 24 * 4
    for index in range(6, 9):
        queue.decide(BEN, index, 0, Decision(LABELS[0]), "ben")
        clock[0] += 4
    assert queue.seconds_left() == 21 * 2
    clock[0] += 300  # a break: the pace of people who are away does not count
    assert queue.seconds_left() is None


def test_undo_does_not_overwrite_a_later_change_by_another(tmp_path: Path) -> None:
    both = assignments(numbered(tmp_path, 3))
    both.decide(ANN, 0, 0, Decision(LABELS[0]), "ann")
    both.decide(ANN, 1, 0, Decision(LABELS[0]), "ann")
    both.decide(BEN, 1, 1, Decision(LABELS[1]), "ben")
    with pytest.raises(Conflict, match="ben"):
        both.undo(ANN)
    assert table(tmp_path)["001.png"] == LABELS[1]
    assert both.undo(ANN)[0] == "000.png"


def test_skipped_photos_come_last_and_a_reload_shows_the_same_photo(tmp_path: Path) -> None:
    alone = assignments(numbered(tmp_path, 3))
    assert alone.skip(ANN, 0).index == 1
    assert alone.next(ANN).index == 1
    assert alone.skip(ANN, 1).index == 2
    assert alone.skip(ANN, 2).index == 0


def test_many_threads_lose_nothing(tmp_path: Path) -> None:
    both = assignments(numbered(tmp_path, 40))
    conflicts = []

    def label(client: str) -> None:
        assignment = both.next(client)
        while assignment.index is not None:
            try:
                assignment = both.decide(client, assignment.index, 0, Decision(LABELS[0]), client)
            except Conflict as error:
                conflicts.append(error)
                assignment = both.next(client)

    threads = [threading.Thread(target=label, args=(f"client-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not conflicts  # leases keep the threads on different photos
    assert list(table(tmp_path).values()) == [LABELS[0]] * 40


# The model


def test_uncertain_photos_come_first_then_unclassified_then_confident_ones(tmp_path: Path) -> None:
    suggestions = Suggestions(SHIPPED, read_recipe("classroom").labels)
    suggestions._suggestions = {0: Suggestion("x", 0.99), 1: Suggestion("x", 0.7), 2: Suggestion("y", 0.55)}
    assert sorted(range(4), key=suggestions.rank) == [2, 1, 3, 0]


@pytest.mark.slow
def test_a_model_suggests_and_skips_photos_that_it_cannot_open(tmp_path: Path) -> None:
    recipe = read_recipe("classroom")
    golden = sorted((SHIPPED / "goldens").iterdir())[0]
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff not a photo")
    suggestions = Suggestions(SHIPPED, recipe.labels)
    suggestions.start([(0, tmp_path / "bad.jpg"), (1, tmp_path / "missing.jpg"), (2, golden)])
    assert suggestions._thread is not None
    suggestions._thread.join(timeout=60)
    assert (suggestions.busy, suggestions.fault) == (False, "")
    assert suggestions.of(0) is suggestions.of(1) is None
    expected = recipe.labels[int(golden.name.partition("_")[0])]
    suggestion = suggestions.of(2)
    assert suggestion is not None
    assert suggestion.label == expected
    assert 0.5 < suggestion.probability <= 1


def test_a_broken_model_does_not_stop_the_labelling(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_bytes((SHIPPED / "recipe.json").read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"broken")
    suggestions = Suggestions(tmp_path, read_recipe("classroom").labels)
    suggestions.start([(0, tmp_path / "none.jpg")])
    assert suggestions._thread is not None
    suggestions._thread.join(timeout=60)
    assert suggestions.fault.startswith("no suggestions: model.onnx cannot be loaded")


# The server


@pytest.mark.slow
def test_a_killed_server_loses_no_acknowledged_decision_and_can_be_restarted(tmp_path: Path) -> None:
    numbered(tmp_path, 120)
    acknowledged: dict[str, str] = {}
    with serving(tmp_path) as server:
        killer = threading.Timer(0.05, server.process.kill)
        try:
            photo = server.post("turn").json()["photo"]
            while photo:
                label = LABELS[photo["id"] % 2]
                answer = server.decide(photo, label=label)
                assert answer.status_code == 200
                acknowledged[photo["name"]] = label
                if len(acknowledged) == 30:
                    killer.start()
                photo = answer.json()["photo"]
        except requests.RequestException:
            pass
        killer.join()
    assert 0 < len(acknowledged) < 120, "killed in the middle"
    kept = table(tmp_path)
    assert len(kept) == 120
    assert acknowledged.items() <= kept.items()
    with serving(tmp_path) as server:  # the lock ended with the killed process
        answer = server.post("turn").json()
        assert answer["progress"]["decided"] in (len(acknowledged), len(acknowledged) + 1)
        assert not kept[answer["photo"]["name"]]


@pytest.mark.slow
def test_a_second_server_on_the_same_table_is_refused_and_names_the_first(tmp_path: Path) -> None:
    numbered(tmp_path, 2)
    with serving(tmp_path) as server:
        done = command("dataset", "label", tmp_path, "--recipe", SHAPES, "--port", 0, check=False)
        assert done.returncode == 1
        expected = f"Error: {tmp_path}/labels.tsv is being labelled by process {server.process.pid} {server.url}: "
        assert done.stderr.startswith(expected)
        assert done.stderr.count("\n") == 1
        assert server.post("turn").status_code == 200


def test_a_released_lock_leaves_no_file(tmp_path: Path) -> None:
    with locked(tmp_path / "t.tsv") as announce:
        announce("http://there")
        with (tmp_path / ".t.tsv.lock").open() as file:
            assert file.read() == f"process {os.getpid()} http://there"
            with pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not list(tmp_path.iterdir())


def test_a_lock_whose_folder_became_read_only_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch, locked(tmp_path / "t.tsv"):
        patch.setattr(Path, "unlink", refuse)
    with locked(tmp_path / "t.tsv"):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_cleanly_and_it_prints_what_is_next(tmp_path: Path, number: int) -> None:
    numbered(tmp_path, 2)
    with serving(tmp_path, "--no-model") as server:
        photo = server.post("turn").json()["photo"]
        assert server.decide(photo, label=LABELS[0]).status_code == 200
        output = server.stop(number)
        assert server.process.returncode == 0
    assert "Warning" not in output
    words = pasteable("dataset", "label", tmp_path, "--recipe", SHAPES, "--port", 0, "--no-model")
    assert output.strip() == f"1 of 2 labelled, 0 set aside: {tmp_path}/labels.tsv; continue with: {words}"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".labels.tsv.undo", "000.png", "001.png", "labels.tsv"]


@pytest.mark.slow
def test_a_signal_right_after_the_start_stops_the_server_cleanly(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "dataset", "label", str(numbered(tmp_path, 1)), "--port", "0"]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    while "http://" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)  # before it serves, while the model is loading
    output = process.communicate(timeout=60)[0]
    assert output.startswith("0 of 1 labelled, 0 set aside: ")
    assert (output.count("\n"), process.returncode) == (1, 0)


@pytest.mark.slow
def test_the_photo_is_shown_upright_small_and_as_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (2400, 1200)).save(tmp_path / "a.tif", exif=exif)
    (tmp_path / "b.jpg").write_bytes(b"GIF89a, really")
    with serving(tmp_path) as server:
        answer = requests.get(f"{server.url}/photo/0", timeout=20)
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert Image.open(BytesIO(answer.content)).size == (800, 1600)
        again = {"If-None-Match": answer.headers["ETag"]}
        assert requests.get(f"{server.url}/photo/0", headers=again, timeout=20).status_code == 304
        Image.new("RGB", (30, 20)).save(tmp_path / "a.tif")
        replaced = requests.get(f"{server.url}/photo/0", headers=again, timeout=20)
        assert Image.open(BytesIO(replaced.content)).size == (30, 20)
        broken = requests.get(f"{server.url}/photo/1", timeout=20)
        assert (broken.status_code, broken.json()["error"]["code"]) == (415, "unsupported_format")
        for path in ("photo/2", "photo/..%2f..%2fREADME.md", "static/..%2flabel.py", "photo/-1"):
            assert requests.get(f"{server.url}/{path}", timeout=20).status_code == 404


@pytest.mark.slow
def test_each_of_two_names_that_differ_in_how_accents_are_stored_is_opened(tmp_path: Path) -> None:
    names = [normalize(form, "Café.png") for form in ("NFC", "NFD")]
    photos(tmp_path, *names)
    with serving(tmp_path) as server:
        opened = [server.post("open", name=name).json()["photo"]["name"] for name in names]
        assert opened == names


@pytest.mark.slow
def test_labels_get_distinct_keys_as_far_as_there_are_any(tmp_path: Path) -> None:
    labels = [f"label {number}" for number in range(40)]
    (tmp_path / "many.yaml").write_text(
        json.dumps({"name": "many", "labels": labels, "input": {"height": 64, "width": 64}})
    )
    with serving(numbered(tmp_path / "in", 1), recipe=tmp_path / "many.yaml") as server:
        keys = [row["key"] for row in server.state["labels"]]
    assert "".join(keys[:12]) == "123456789acd"
    assert keys.pop() == "n"  # no class
    assert not set("bunsz") & set(keys)
    assert len({*keys}) == 9 + 21 + 1
    assert keys[-10:] == [""] * 10


@pytest.mark.slow
def test_a_photo_of_no_class_has_a_key_and_a_folder(tmp_path: Path) -> None:
    with serving(numbered(tmp_path / "in", 1), "--folders", str(tmp_path / "out")) as server:
        assert server.state["labels"][-1] == {"label": "no_class", "key": "n", "text": "no class"}
        server.decide(server.post("turn").json()["photo"], label="no_class")
    assert table(tmp_path / "in") == {"000.png": "no_class"}
    assert (tmp_path / "out" / "no_class" / "000.png").is_file()


@pytest.mark.slow
def test_only_this_page_may_post(tmp_path: Path) -> None:
    with serving(numbered(tmp_path, 1)) as server:
        valid: dict[str, Any] = {"id": 0, "revision": 0, "label": LABELS[0]}
        refused = [
            (server.post("decide", headers={"Host": "evil.example"}, **valid), 400),
            (server.post("decide", headers={"Content-Type": "text/plain"}, **valid), 415),
            (server.post("decide", headers={"X-Labelling": ""}, **valid), 403),
            (server.post("decide", headers={"X-Labelling": "of another start"}, **valid), 409),
            (server.post("decide", id=0, revision=0, label="square"), 400),
            (server.post("decide", id=0, revision=0), 400),
            (server.post("decide", id=7, revision=0, label=LABELS[0]), 400),
            (server.post("decide", client="<>", **valid), 400),
            (server.post("decide", **valid, by="x" * 20_000), 413),
            (requests.get(f"{server.url}/api/decide", timeout=20), 405),
        ]
        assert [answer.status_code for answer, _ in refused] == [status for _, status in refused]
        assert table(tmp_path) == {"000.png": ""}
        page = requests.get(server.url, timeout=20)
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
        assert "//" not in page.text  # nothing from other origins
        with pytest.raises(requests.ConnectionError):  # bound to loopback only
            requests.get(server.url.replace("127.0.0.1", "127.0.0.2"), headers={"Host": "localhost"}, timeout=5)


@pytest.mark.slow
def test_a_conflict_is_a_409_that_names_the_user_and_the_label(tmp_path: Path) -> None:
    with serving(numbered(tmp_path, 2), "--by", "the team") as server:
        photo = server.post("turn").json()["photo"]
        assert server.decide(photo, label=LABELS[0]).status_code == 200
        answer = server.decide(photo, BEN, label=LABELS[1])
        assert answer.status_code == 409
        error = answer.json()["error"]
        assert (error["code"], error["who"], error["what"]) == ("conflict", "the team", LABELS[0])
        assert server.post("undo", BEN).json()["error"]["code"] == "nothing_to_undo"


# One-line errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["{}/none"], "is not a folder: give the folder with the photos"),
        (["{}/empty"], "has no photos: add some, or draw samples: python -m dataset sample"),
        (["{}/full/000.png"], "is not a folder: give the folder with the photos"),
        (["{}/full", "--recipe", "shape"], "no recipe shape: did you mean shapes?"),
        (["{}/full", "--model", "{}/empty"], "has no model.onnx: give a bundle with --model, or use --no-model"),
        (["{}/full", "--model", SHIPPED], f", not {', '.join(LABELS)}: give another --model or --recipe"),
        (["{}/full", "--folders", "{}/full"], "contains the photos: give another folder"),
        (["{}/full", "--table", "/proc/labels.tsv"], "/proc/labels.tsv cannot be written: "),
        (["{}/full", "--folders", "/proc/out"], "/proc/out cannot be written: "),
        (["{}/full", "--port", "{port}"], "--port 0 for a free one"),
    ],
)
def test_errors_are_reported_in_one_line_that_names_the_fix(tmp_path: Path, words: list[object], expected: str) -> None:
    numbered(tmp_path / "full", 2)
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        filled = [str(word).replace("{}", str(tmp_path)).replace("{port}", str(port)) for word in words]
        done = command("dataset", "label", "--recipe", "shapes", *filled, check=False)
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_check_reads_and_writes_nothing(tmp_path: Path) -> None:
    numbered(tmp_path, 3)
    (tmp_path / "labels.tsv").write_text(f"path\tlabel\tset_aside\n000.png\t{LABELS[1]}\t\n001.png\t\tunclear\n")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    done = command("dataset", "label", tmp_path, "--recipe", "shapes", "--check")
    assert done.stdout.startswith(f"{tmp_path}: 1 of 3 labelled, 1 set aside (0 {LABELS[0]}, 1 {LABELS[1]}, ")
    assert done.stdout.endswith("0 broken, 1 unclear), 1 left\n")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
