"""What a night may learn from, and that a forgotten photo leaves no copy."""

from io import BytesIO
from pathlib import Path

from PIL import Image

from feedback.learning import snapshot as snapshots
from feedback.learning.client import Agreed
from feedback.photos.hashing import phash
from tests.helpers.feedback import jpeg
from tests.helpers.night.tints import tinted

LABELS = ("circle", "square")


def agreed(number: int, uploader: int | None = 1, **changes: object) -> Agreed:
    row = {"id": number, "name": LABELS[number % 2], "url": f"/uploads/{number:032x}.jpg", "chain": number}
    row |= {"sha256": f"{number:064x}"}
    return Agreed.read({**row, "uploader": uploader, "reason": "upload", "probability": 1.0, **changes})


def write(work: Path, rows: list[Agreed]) -> Path:
    photos = [(row, tinted("red", row.id)) for row in rows]
    for row, data in photos:
        path = work / "cache" / row.url.rpartition("/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    chosen = snapshots.choose(photos, LABELS, (), 1000)
    folder = work / "snapshots" / snapshots.digest_of(chosen)
    snapshots.write(folder, chosen)
    return folder


def copies(work: Path) -> set[int]:
    return {int(path.stem) for path in work.glob("snapshots/*/*/*/*.jpg")}


def test_a_forgotten_photo_leaves_no_copy_and_the_others_can_be_trained_on(tmp_path: Path) -> None:
    folder = write(tmp_path, [agreed(number) for number in range(1, 11)])
    assert copies(tmp_path) == set(range(1, 11))
    name = f"{3:032x}.jpg"
    removed = snapshots.remove(tmp_path, lambda number: number == 3, lambda file: file == name)
    assert len(removed) == 2
    assert copies(tmp_path) == set(range(1, 11)) - {3}
    assert not (tmp_path / "cache" / name).exists()
    rows = (folder / "train.tsv").read_text().splitlines()[1:]
    assert sorted(row.partition("\t")[0] for row in rows) == sorted(
        str(path.relative_to(folder)) for path in folder.glob("photos/*/*.jpg")
    )
    assert snapshots.remove(tmp_path, lambda number: number == 3, lambda file: file == name) == []
    assert snapshots.remove(tmp_path / "missing", lambda _: True, lambda _: True) == []


def test_a_copy_of_a_frozen_photo_is_in_no_part() -> None:
    photos = [(agreed(number), jpeg(number, "stripes")) for number in range(1, 9)]
    frozen = [phash(Image.open(BytesIO(jpeg(3, "stripes"))))]
    chosen = {row.agreed.id: row for row in snapshots.choose(photos, LABELS, frozen, 1000)}
    assert (chosen[3].part, chosen[3].why) == ("", "near duplicate of a frozen photo")
    assert any(row.part for row in chosen.values())


def test_captured_photos_of_many_clients_are_no_single_person() -> None:
    """With five uploaders the parts go by person; photos that nobody uploaded would otherwise all be on one side."""
    uploaded = [agreed(number, uploader=number % 5) for number in range(1, 21)]
    captured = [agreed(number, None, reason="random", probability=0.01) for number in range(21, 61)]
    chosen = snapshots.choose([(row, tinted("red", row.id)) for row in uploaded + captured], LABELS, (), 100)
    parts = [row.part for row in chosen if row.agreed.reason == "random"]
    assert parts.count("train") > 20
    assert parts.count("held") > 2
