"""`dataset audit`: verdicts on real files, duplicates, resuming after a crash or kill, and moving files."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import DEFAULT, Mock

import numpy as np
import psutil
import pytest
from click.testing import CliRunner, Result
from PIL import Image, ImageEnhance

from benchmarks.harness import costly
from common.errors import UserError
from config.recipe import read_recipe
from dataset.audit import VERDICTS, _move, audit
from dataset.auditing.duplicates import connected_groups, near_groups, similar_groups
from dataset.auditing.hashing import hash_photo
from dataset.auditing.inspect import Facts, cut_short, inspect_all, inspect_photo, inspector
from dataset.auditing.journal import Journal
from dataset.contact_sheet import contact_sheet
from dataset.draw import draw
from dataset.listing import files_of
from dataset.tables import Row, read_rows
from deploy.settings import ROOT
from handler.spec import Input, Limits
from tests.helpers.pictures import REFUSED, TAKEN, animated, bomb, encode, half, photo, turned

ODD = ROOT.parent / "shared" / "data" / "odd"


def put(folder: Path, **files: bytes) -> Path:
    for name, data in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(audit, [str(argument) for argument in arguments])


def rows(table: Path) -> dict[str, Row]:
    return {row["path"]: row for row in read_rows(table)}


def verdict(tmp_path: Path, data: bytes, limits: Limits | None = None) -> Facts:
    path = tmp_path / "file.jpg"
    path.write_bytes(data)
    return inspect_photo(path, limits or Limits())


@pytest.mark.parametrize("kind", [kind for kind in TAKEN if kind not in ("one_pixel",)])
def test_files_that_serving_accepts_are_ok(tmp_path: Path, kind: str) -> None:
    inspection = verdict(tmp_path, TAKEN[kind]())
    assert (inspection.verdict, inspection.reason, len(inspection.phash), len(inspection.sha256)) == ("ok", "", 36, 64)


@pytest.mark.parametrize("kind", REFUSED)
def test_files_that_serving_refuses_are_not_ok(tmp_path: Path, kind: str) -> None:
    expected = {"unsupported_format": "not_a_photo", "animated_image": "not_a_photo", "too_many_pixels": "too_large"}
    expected |= {"unsupported_format": "unsupported"} if kind == "tiff_float" else {}
    cut = kind.endswith(("_truncated", "_only")) or kind == "empty"
    inspection = verdict(tmp_path, REFUSED[kind][0]())
    assert inspection.verdict == ("truncated" if cut else expected.get(REFUSED[kind][2], "corrupt"))
    assert inspection.reason and not inspection.phash


def test_a_sound_file_that_serving_does_not_decode_is_unsupported(tmp_path: Path) -> None:
    data = encode(photo(), "JPEG")
    frame = data.index(b"\xff\xc0\0\x11")
    twelve_bits = data[: frame + 4] + b"\x0c" + data[frame + 5 :]
    inspection = verdict(tmp_path, twelve_bits)
    assert (inspection.verdict, inspection.format) == ("unsupported", "JPEG")
    assert inspection.reason.startswith("a 12-bit JPEG is not supported: save it as")


FORMS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encode(photo(), "JPEG"),
    "jpeg_with_thumbnail": lambda: with_thumbnail(),
    "progressive": lambda: encode(photo(), "JPEG", progressive=True),
    "png": lambda: encode(photo(), "PNG"),
    "webp": lambda: encode(photo(), "WEBP"),
    "avif": lambda: encode(photo(), "AVIF"),
    "tiff": lambda: encode(photo(), "TIFF"),
    "tiff_lzw": lambda: encode(photo(), "TIFF", compression="tiff_lzw"),
    "bmp": lambda: encode(photo(), "BMP"),
    "jpeg_2000": lambda: encode(photo(), "JPEG2000"),
}


def with_thumbnail() -> bytes:
    """A JPEG with a complete JPEG, including its end marker, in an APP segment before the image data."""
    data, inner = encode(photo(), "JPEG"), encode(photo().resize((80, 60)), "JPEG")
    return data[:2] + b"\xff\xe5" + (len(inner) + 2).to_bytes(2, "big") + inner + data[2:]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_file_cut_anywhere_is_truncated(tmp_path: Path, form: str, share: float) -> None:
    data = FORMS[form]()
    assert verdict(tmp_path, data[: int(len(data) * share)]).verdict == "truncated"
    assert not cut_short(data)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "least"), [("jpeg", 0), ("progressive", 8), ("png", 10), ("webp", 5), ("avif", 10)])
def test_flipped_bits_are_never_reported_as_truncated(tmp_path: Path, form: str, least: int) -> None:
    rng, counts = random.Random(3), Counter[str]()
    for _ in range(10):
        data = bytearray(FORMS[form]())
        for _ in range(40):
            data[rng.randrange(len(data) // 4, len(data) - 30)] ^= 1 << rng.randrange(8)
        counts[verdict(tmp_path, bytes(data)).verdict] += 1
    assert set(counts) <= {"corrupt", "ok"}  # libjpeg accepts most of them: see dataset.auditing.inspect
    assert counts["corrupt"] >= least


def test_the_recipe_s_limits_apply_before_decoding(tmp_path: Path) -> None:
    assert verdict(tmp_path, encode(photo(), "PNG"), Limits(bytes=1000)).verdict == "too_large"
    assert verdict(tmp_path, encode(photo(), "PNG"), Limits(pixels=1000)).verdict == "too_large"
    assert verdict(tmp_path, b"\0\0\0\x18ftypmp42" + bytes(5000), Limits(bytes=1000)).verdict == "not_a_photo"
    assert verdict(tmp_path, bomb()).verdict == "too_large"


def test_size_is_upright_and_small_photos_are_reported(tmp_path: Path) -> None:
    inspection = verdict(tmp_path, turned(6))
    assert (inspection.width, inspection.height, inspection.format, inspection.mode) == (240, 320, "JPEG", "RGB")
    small = verdict(tmp_path, encode(photo().resize((300, 63)), "PNG"))
    assert (small.verdict, small.width) == ("too_small", 300)


@pytest.mark.slow
def test_every_file_of_a_folder_is_in_the_table(tmp_path: Path) -> None:
    sound = encode(photo(), "PNG")
    again = encode(photo().resize((200, 150)), "JPEG", quality=50)
    put(tmp_path, a__1_dot_png=sound, b__2_dot_png=sound, a__small_dot_jpg=again, a__3_dot_gif=animated("GIF"))
    put(tmp_path, a__4_dot_jpg=half(encode(photo("stripes"), "JPEG")), a__note_dot_md=b"x", _dot_hidden=b"x")
    (tmp_path / os.fsdecode(b"b/caf\xe9 \t5.png")).write_bytes(encode(photo("crosses"), "PNG"))
    done = run(tmp_path)
    assert done.exit_code == 0, done.output
    audited = rows(tmp_path / "audit.tsv")
    assert {name: row["verdict"] for name, row in audited.items()} == {
        "a/1.png": "ok",
        "a/3.gif": "not_a_photo",
        "a/4.jpg": "truncated",
        "a/small.jpg": "near_duplicate",
        "b/2.png": "exact_duplicate",
        "b/caf\udce9 \t5.png": "ok",
    }
    assert "a/1.png" in audited["b/2.png"]["reason"] and "a/1.png" in audited["a/small.jpg"]["reason"]
    assert audited["a/1.png"]["size"] == "320x240" and audited["a/1.png"]["bytes"] == str(len(sound))
    assert "only 2 photos are usable; at least 500 are recommended" in done.stderr
    assert f"-m dataset label {tmp_path} --recipe classroom" in done.stdout
    assert len(list(tmp_path.rglob("*"))) == 11  # two folders, eight files, the table: no journal is left


def test_without_a_usable_photo_there_is_no_next_step(tmp_path: Path) -> None:
    put(tmp_path, a_dot_jpg=b"no photo")
    done = run(tmp_path)
    assert done.exit_code == 0, done.output
    assert "only 0 photos are usable" in done.stderr
    assert "next:" not in done.output


@pytest.mark.slow
def test_ten_files_are_named_and_the_others_counted(tmp_path: Path) -> None:
    put(tmp_path, **{f"{number}_dot_html": b"<html>" for number in range(21)})
    lines = run(tmp_path).stdout.splitlines()
    assert len([line for line in lines if ".html: not_a_photo" in line]) == 10
    assert f"  and 11 more in {tmp_path / 'audit.tsv'}" in lines


@pytest.mark.slow
def test_what_was_ignored_is_reported(tmp_path: Path) -> None:
    """Links are followed as every other command does, but nothing that lies elsewhere is moved."""
    folder, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    put(folder, a_dot_png=encode(photo(), "PNG"), Thumbs_dot_db=b"x", notes_dot_xml=b"x")
    put(elsewhere, b_dot_jpg=b"broken")
    (folder / "more").symlink_to(elsewhere)
    done = run(folder, "--move-to", tmp_path / "refused")
    assert f"ignored in {folder}: 1 Thumbs.db, 1 .xml, 1 link\n" in done.stderr
    assert (
        f"not followed with --move-to, for example {folder / 'more'}: audit the linked folder itself\n" in done.stderr
    )
    assert list(rows(folder / "audit.tsv")) == ["a.png"]
    done = run(folder)
    assert "link" not in done.stderr
    assert sorted(rows(folder / "audit.tsv")) == ["a.png", "more/b.jpg"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{empty}"], "has no file to audit: give a folder of photos"),
        (["{full}", "--out", "/proc/none/audit.tsv"], "give another --out"),
        (["{full}", "--out", "{full}/mine.tsv"], "no column path"),
        (["{full}", "--move-to", "{full}/bad"], "give a folder outside"),
        (["{full}", "--recipe", "klassroom"], "did you mean classroom"),
    ],
)
def test_faults_name_the_fix(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "empty").mkdir()
    put(tmp_path / "full", a_dot_png=b"x", mine_dot_tsv=b"name\tage\n")
    places = {"empty": str(tmp_path / "empty"), "full": str(tmp_path / "full")}
    done = run(*[argument.format(**places) for argument in arguments])
    assert done.exit_code == 1 and words in done.stderr and not isinstance(done.exception, OSError)
    assert (tmp_path / "full" / "mine.tsv").read_bytes() == b"name\tage\n"


@pytest.mark.slow
def test_files_are_moved_only_with_move_to_and_never_overwritten(tmp_path: Path) -> None:
    photos, bad = put(tmp_path / "in", a__1_dot_png=encode(photo(), "PNG"), a__2_dot_jpg=b"x"), tmp_path / "bad"
    put(bad, a__2_dot_jpg=b"somebody's")
    assert run(photos).exit_code == 0 and (photos / "a" / "2.jpg").is_file()
    done = run(photos, "--move-to", bad)
    assert done.exit_code == 0, done.output
    assert (bad / "a" / "2.jpg").read_bytes() == b"somebody's" and (bad / "a" / "2-1.jpg").read_bytes() == b"x"
    assert not (photos / "a" / "2.jpg").exists() and (photos / "a" / "1.png").is_file()
    for _ in range(2):  # the next audit still says where it went
        reason = rows(photos / "audit.tsv")["a/2.jpg"]["reason"]
        assert reason.endswith(f"moved to {bad / 'a' / '2-1.jpg'}")
        assert run(photos).exit_code == 0


@pytest.mark.slow
def test_stopped_moves_are_finished_by_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"{n}_dot_jpg": bytes([n]) for n in range(1, 5)}
    photos, bad = put(tmp_path / "in", **files), tmp_path / "bad"
    rename, calls = Path.rename, Counter[str]()

    def stopped(self: Path, target: Any) -> Path:
        calls["rename"] += 1
        if calls["rename"] == 3:
            raise KeyboardInterrupt
        if calls["rename"] == 2:
            raise OSError(18, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stopped)
    done = run(photos, "--move-to", bad)
    assert done.exit_code == 1 and "run the same command again" in done.stderr
    monkeypatch.undo()
    (bad / "3.jpg").write_bytes((photos / "3.jpg").read_bytes())  # as if killed between copying and removing
    done = run(photos, "--move-to", bad)
    assert done.exit_code == 0, done.output
    assert sorted(path.read_bytes() for path in bad.iterdir()) == [b"\1", b"\2", b"\3", b"\4"]
    assert [path.name for path in photos.iterdir()] == ["audit.tsv"]
    assert len(rows(photos / "audit.tsv")) == 4


@pytest.mark.slow
def test_files_that_came_or_changed_since_a_stopped_move_are_audited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = put(tmp_path / "in", **{f"{n}_dot_jpg": bytes([n]) for n in range(3)})
    with monkeypatch.context() as stopped:
        stopped.setattr("dataset.audit._move", Mock(side_effect=KeyboardInterrupt))
        assert run(photos, "--move-to", tmp_path / "bad").exit_code == 1
    put(photos, **{"1_dot_jpg": encode(photo(), "PNG"), "3_dot_jpg": b"new"})
    done = run(photos, "--move-to", tmp_path / "bad")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "bad").iterdir()) == ["0.jpg", "2.jpg", "3.jpg"]
    assert [name for name, row in rows(photos / "audit.tsv").items() if row["verdict"] == "ok"] == ["1.jpg"]


@pytest.mark.slow
def test_a_stopped_move_does_not_go_on_to_a_former_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = put(tmp_path / "in", a_dot_jpg=b"a", b_dot_jpg=b"b")
    with monkeypatch.context() as stopped:
        stopped.setattr("dataset.audit._move", Mock(wraps=_move, side_effect=[DEFAULT, KeyboardInterrupt]))
        assert run(photos, "--move-to", tmp_path / "former").exit_code == 1
    assert run(photos, "--move-to", tmp_path / "bad").exit_code == 0
    assert [path.name for path in (tmp_path / "former").iterdir()] == ["a.jpg"]
    assert [path.name for path in (tmp_path / "bad").iterdir()] == ["b.jpg"]
    reasons = [row["reason"].rpartition(" ")[2] for row in rows(photos / "audit.tsv").values()]
    assert sorted(reasons) == [str(tmp_path / "bad" / "b.jpg"), str(tmp_path / "former" / "a.jpg")]


@pytest.mark.slow
def test_after_kill_9_it_continues_and_no_process_is_left(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    data = encode(draw("discs", 1).resize((1600, 1200)), "PNG")
    for number in range(60):
        (photos / f"{number}.png").write_bytes(data)
    words = [sys.executable, "-m", "dataset", "audit", str(photos)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal, deadline = photos / ".audit.tsv.partial", time.monotonic() + 60
    while not journal.exists() or journal.read_bytes().count(b"\n") < 12:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not psutil.wait_procs(children, timeout=10)[1]
    assert not (photos / "audit.tsv").exists()
    known = journal.read_bytes().count(b"\n") - 1
    assert known < 60
    with journal.open("ab") as file:
        file.write(b'["torn')
    (photos / "0.png").write_bytes(b"changed since")
    done = run(photos)
    assert done.exit_code == 0, done.output
    assert f"{known} of 60" in done.stderr or f"{known - 1} of 60" in done.stderr
    audited = rows(photos / "audit.tsv")
    assert len(audited) == 60 and audited["0.png"]["verdict"] == "not_a_photo" and not journal.exists()


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_next_run_continues(tmp_path: Path) -> None:
    photos = put(tmp_path / "in", **{f"{number}_dot_jpg": bytes([number]) for number in range(30)})
    words = [sys.executable, "-m", "dataset", "audit", str(photos)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, preexec_fn=limit_file_size, timeout=120)
    assert (
        done.returncode == 1
        and "free some disk space, then run the same command to continue" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert not (photos / "audit.tsv").exists()
    done_again = run(photos)
    assert done_again.exit_code == 0 and "of 30 files are known" in done_again.stderr
    assert len(rows(photos / "audit.tsv")) == 30


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))


def exit_on_poison(path: Path) -> Facts:
    if path.name == "poison":
        os._exit(9)
    return Facts("ok", path.name)


@pytest.mark.slow
def test_a_file_that_kills_its_process_affects_only_its_own_verdict() -> None:
    paths = [Path("poison" if number in (3, 11) else str(number)) for number in range(20)]
    inspected = dict(inspect_all(paths, exit_on_poison, workers=2))
    assert sorted(inspected) == list(range(20))
    assert [index for index, facts in inspected.items() if facts.verdict == "corrupt"] == [3, 11]
    assert inspected[0].reason == "0" and "killed" in inspected[3].reason


def test_no_file_is_corrupt_because_no_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataset.auditing.inspect._prepare", partial(os._exit, 1))
    with pytest.raises(UserError, match=r"cannot start \(BrokenProcessPool\): free some memory"):
        list(inspect_all([Path("a"), Path("b")], exit_on_poison))


def changed(image: Image.Image, kind: str) -> Image.Image:
    width, height = image.size
    if kind == "jpeg":
        return Image.open(BytesIO(encode(image, "JPEG", quality=30)))
    if kind == "half":
        return image.resize((width // 2, height // 2))
    if kind == "cropped":
        return image.crop((width // 100, height // 100, width - width // 100, height - height // 100))
    return ImageEnhance.Brightness(image).enhance(0.7)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jpeg", "half", "cropped", "darker"])
@pytest.mark.parametrize("drawing", ["room", "call", "discs"])
def test_changed_copies_are_near_and_other_photos_are_not(drawing: str, kind: str) -> None:
    originals = [draw(drawing, seed) for seed in range(6)]
    hashes = [hash_photo(image) for image in originals] + [hash_photo(changed(image, kind)) for image in originals]
    assert near_groups(hashes) == [*range(6), *range(6)]


def test_near_groups_form_chains_and_empty_hashes_are_alone() -> None:
    hashes = ["", f"{0:036x}", f"{2**20 - 1:036x}", f"{2**40 - 1:036x}", f"{2**144 - 1:036x}", ""]
    assert near_groups(hashes, 20) == [0, 1, 1, 1, 4, 5]
    assert near_groups(hashes, 19) == [0, 1, 2, 3, 4, 5]
    assert near_groups([]) == []


@pytest.mark.slow
def test_ten_thousand_hashes_are_grouped_in_seconds() -> None:
    rng = random.Random(0)
    hashes = [f"{rng.getrandbits(144):036x}" for _ in range(10_000)]
    hashes[9_999] = f"{int(hashes[17], 16) ^ 0b1011:036x}"
    started = time.monotonic()
    groups = near_groups(hashes)
    assert groups[9_999] == 17 and len(set(groups)) == 9_999
    assert time.monotonic() - started < 60


def former_groups(count: int, links: list[tuple[int, int]]) -> list[int]:
    """Union-find, as it was before scipy: the first item of each item's group."""
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    for first, second in links:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return [root(index) for index in range(count)]


@pytest.mark.parametrize("seed", range(40))
def test_connected_groups_equal_the_former_union_find(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))
    links = rng.integers(0, count, (int(rng.integers(0, 50)), 2))
    assert connected_groups(count, links[:, 0], links[:, 1]).tolist() == former_groups(count, links.tolist())


@pytest.mark.parametrize("seed", range(10))
def test_near_groups_equal_the_former_union_find(seed: int) -> None:
    """With 16-bit hashes and more than two blocks of them."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2**16, 300).tolist()
    hashes = ["" if value % 7 == 0 else f"{value:04x}" for value in values]
    links = [
        (i, j)
        for i, first in enumerate(values)
        for j, second in enumerate(values[:i])
        if hashes[i] and hashes[j] and (first ^ second).bit_count() <= 1
    ]
    groups = near_groups(hashes, 1)
    assert groups == former_groups(len(hashes), links)
    assert 1 < len(set(groups)) < 300


@pytest.mark.slow
def test_a_second_audit_of_the_same_table_is_refused(tmp_path: Path) -> None:
    put(tmp_path, a_dot_png=encode(photo(), "PNG"))
    with Journal(tmp_path / "audit.tsv", {}):
        done = run(tmp_path)
    assert done.exit_code == 1
    assert "another audit is writing" in done.stderr and "wait for it, or give another --out" in done.stderr
    assert run(tmp_path).exit_code == 0


@pytest.mark.slow
def test_a_photo_that_serving_would_stop_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(costly.tiff_of_one_strip(8000, 2000))
    facts = inspect_photo(tmp_path / "a.tif", Limits(photo_seconds=0.3), served=Input(height=70, width=50))
    assert facts.verdict == "too_large"
    assert "decoding the photo takes more than 0.3 s, the limit: send" in facts.reason


@pytest.mark.slow
def test_similar_groups_join_blank_images_by_their_bytes_only(tmp_path: Path) -> None:
    white, grey = encode(Image.new("RGB", (99, 99), "white"), "PNG"), encode(Image.new("RGB", (99, 99), "grey"), "PNG")
    put(tmp_path, a_dot_png=white, b_dot_png=grey, c_dot_png=white, d_dot_jpg=b"x", e_dot_jpg=b"")
    put(tmp_path, f_dot_png=encode(photo(), "PNG"), g_dot_jpg=encode(photo(), "JPEG"))
    assert similar_groups(sorted(tmp_path.iterdir()), Limits()) == [0, 1, 0, 3, 4, 5, 5]


@pytest.mark.slow
def test_the_sharper_of_two_near_duplicates_is_kept(tmp_path: Path) -> None:
    put(tmp_path, a_dot_jpg=encode(photo().resize((160, 120)), "JPEG"), b_dot_png=encode(photo(), "PNG"))
    assert run(tmp_path).exit_code == 0
    audited = rows(tmp_path / "audit.tsv")
    assert (audited["a.jpg"]["verdict"], audited["b.png"]["verdict"]) == ("near_duplicate", "ok")
    assert "does it show the same as b.png? (" in audited["a.jpg"]["reason"], "both may be small logos"


@pytest.mark.slow
def test_duplicates_with_different_labels_are_named(tmp_path: Path) -> None:
    data, near, photos = encode(photo(), "PNG"), encode(photo(), "JPEG", quality=50), tmp_path / "in"
    put(photos, disc__a_dot_png=data, disc__c_dot_png=data, stripe__b_dot_png=data, no_class__d_dot_jpg=near)
    put(photos, cross__e_dot_png=encode(photo("crosses"), "PNG"))
    done = run(photos, "--recipe", "shapes", "--move-to", tmp_path / "bad")
    assert "2 duplicates have another label than the photo that is kept, for example no_class/d.jpg" in done.stderr
    reasons = {name: row["reason"].partition("; moved")[0] for name, row in rows(photos / "audit.tsv").items()}
    assert reasons["stripe/b.png"] == "has the same bytes as disc/a.png; labelled stripe, the other disc"
    assert reasons["no_class/d.jpg"].endswith("; labelled no_class, the other disc")
    assert "labelled" not in reasons["disc/c.png"]
    assert "another label" not in run(photos, "--recipe", "shapes").stderr


def test_contact_sheets_accept_unreadable_photos_and_any_script(tmp_path: Path) -> None:
    put(tmp_path, bad_dot_jpg=b"x")
    sheet = contact_sheet([(photo(), "sound"), (tmp_path / "bad.jpg", "坏 caf\udce9 " * 20)], columns=6, tile=100)
    assert sheet.size == (2 * 108 + 8, 128 + 8)
    assert sheet.getpixel((116 + 50, 8 + 50)) == (190, 190, 190)
    assert contact_sheet([]).mode == "RGB"


@pytest.mark.slow
@pytest.mark.skipif(not ODD.is_dir(), reason="the shared odd pictures are not here")
def test_real_awkward_files_get_a_sensible_verdict(tmp_path: Path) -> None:
    limits = read_recipe("classroom").limits
    paths = files_of(ODD)
    inspected = {paths[index].name[:2]: facts for index, facts in inspect_all(paths, inspector(limits))}
    assert {facts.verdict for facts in inspected.values()} <= set(VERDICTS)
    assert {inspected[number].verdict for number in ("01", "02", "04", "05", "08", "31", "40", "43", "49")} == {
        "not_a_photo"
    }
    assert inspected["28"].verdict == "truncated"
    assert {inspected[number].verdict for number in ("07", "10", "11", "16", "22", "38", "41", "46", "47")} == {"ok"}
