"""A wave of moves with a known truth: who posts which photo when, and the drawing of it.

Drawing a photo takes 50 ms, so few pictures are drawn, and each photo is a crop of one with its own light and quality.
Two photos that an institution posts in a week come from different pictures.
"""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageEnhance

from common.errors import InvalidInput
from common.files import write_json, write_whole
from config.recipe import NO_CLASS
from dataset.draw import draw
from reports.manifest.dates import CHINA
from reports.manifest.regions import REGIONS

OPTIONS = "options.json"
"""The options with which the wave in a folder was drawn."""
_OTHER_FOLDER = "give another folder, or remove this one"

FIRST_MONDAY = datetime(2022, 2, 28, tzinfo=CHINA)
_SUBJECTS = ("英语", "数学", "编程", "音乐", "美术")
_POSTED_TWICE, _NO_CLASSS, _DAMAGED = 0.04, 0.03, 0.006


@dataclass(frozen=True)
class Plan:
    """What to draw. `before` and `after` are the labels that the institutions move between.

    `pictures` are drawn for each label; no institution posts more photos a week."""

    regions: Sequence[str]
    weeks: int
    institutions: int
    photos: int
    before: str
    after: str
    seed: int = 0
    pictures: int = 60


@dataclass(frozen=True)
class Post:
    """One photo: its row of the manifest, its truth, and how to draw it. `moved` and `back` are weeks, -1: never."""

    photo_id: str
    path: str
    institution: str
    region: str
    published_at: datetime
    title: str
    label: str
    moved: int
    back: int
    picture: int
    variant: int
    damaged: bool = False


@dataclass(frozen=True)
class _Institution:
    name: str
    region: str
    moved: int
    back: int


def plan_posts(plan: Plan) -> list[Post]:
    """All posts of a wave, in the order of their dates."""
    rng = random.Random(f"wave-{plan.seed}")
    posts: list[Post] = []
    for code in plan.regions:
        for index in range(plan.institutions):
            institution = _institution(rng, plan, code, index)
            for week in range(plan.weeks):
                posts += _week(rng, plan, institution, week, len(posts))
    return sorted(posts, key=lambda post: (post.published_at, post.photo_id))


def keep_options(folder: Path, options: Mapping[str, object]) -> None:
    """Write the options of a wave into its folder; with other options, its photos and its truth would not match.

    Raises:
        InvalidInput: the folder has photos, and these were drawn with other options, or it is unknown with which.
        OSError: the options cannot be read or written.
    """
    former = _options_of(folder)
    differing = [
        f"--{name} {former.get(name)}, not {value}" for name, value in options.items() if former.get(name) != value
    ]
    if former and differing:
        raise InvalidInput(f"{folder} was drawn with {'; '.join(differing)}", f"give the same options, {_OTHER_FOLDER}")
    write_json(folder / OPTIONS, options)


def _options_of(folder: Path) -> dict[str, object]:
    try:
        return dict(json.loads((folder / OPTIONS).read_text(encoding="utf-8")))
    except FileNotFoundError:
        if (folder / "photos").exists() or (folder / "manifest.csv").exists():
            raise InvalidInput(
                f"{folder} has data, but no {OPTIONS} that says how it was drawn", _OTHER_FOLDER
            ) from None
        return {}
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{folder / OPTIONS} is damaged: {error}", _OTHER_FOLDER) from error


def _institution(rng: random.Random, plan: Plan, code: str, index: int) -> _Institution:
    """An institution that moves when the wave reaches it; one in eight never does."""
    region, origin = REGIONS[code], REGIONS["SH"]
    distance = math.hypot(region.column - origin.column, region.row - origin.row)
    moved = round(plan.weeks * 0.2 + distance * plan.weeks * 0.045 + rng.gauss(0, plan.weeks * 0.05))
    moved = max(1, moved)
    back = moved + max(3, round(plan.weeks * rng.uniform(0.35, 0.6)))
    if rng.random() < 0.125 or moved >= plan.weeks:
        moved = back = -1
    name = f"{region.zh}{'星河云岭'[index % 4]}{'学校教育课堂'[index % 3 * 2 :][:2]}{index + 1}"
    return _Institution(name, region.zh, moved, back if 0 <= back < plan.weeks else -1)


def _week(rng: random.Random, plan: Plan, who: _Institution, week: int, number: int) -> list[Post]:
    away = who.moved >= 0 and week >= who.moved and (who.back < 0 or week < who.back)
    pictures = rng.sample(range(plan.pictures), min(plan.pictures, plan.photos))
    posts: list[Post] = []
    for picture in pictures:
        usual = rng.random() < 0.96
        label = NO_CLASS if rng.random() < _NO_CLASSS else plan.after if away is usual else plan.before
        moment = FIRST_MONDAY + timedelta(days=7 * week + rng.randrange(6), minutes=60 * 8 + rng.randrange(720))
        posts.append(_post(rng, number + len(posts), who, moment, label, picture))
        if rng.random() < _POSTED_TWICE:
            posts.append(_post(rng, number + len(posts), who, moment + timedelta(minutes=7), label, picture))
    return posts


def _post(rng: random.Random, number: int, who: _Institution, moment: datetime, label: str, picture: int) -> Post:
    photo_id = f"p{number:06d}"
    title = f"{who.name}{rng.choice(_SUBJECTS)}学科{number % 40 + 1}期开班"
    path = f"photos/{who.region}/{photo_id}.jpg"
    variant, damaged = rng.randrange(1_000_000), rng.random() < _DAMAGED
    return Post(
        photo_id, path, who.name, who.region, moment, title, label, who.moved, who.back, picture, variant, damaged
    )


def write_photo(path: Path, post: Post, drawn: Mapping[str, str]) -> None:
    """Write a photo unless it is there.

    Args:
        drawn: label -> kind of drawing.

    Raises:
        OSError: it cannot be written.
    """
    if path.exists():
        return
    picture = _poster(post.picture) if post.label == NO_CLASS else _picture(drawn[post.label], post.picture)
    rng = random.Random(f"variant-{post.variant}")
    left, top = rng.randrange(0, 9), rng.randrange(0, 9)
    varied = picture.crop((left, top, picture.width - rng.randrange(0, 9), picture.height - rng.randrange(0, 9)))
    varied = ImageEnhance.Brightness(varied).enhance(rng.uniform(0.85, 1.15))
    buffer = BytesIO()
    varied.save(buffer, "JPEG", quality=rng.randrange(60, 90))
    data = buffer.getvalue()
    write_whole(path, data[: len(data) // 3] if post.damaged else data)


@cache
def _picture(kind: str, seed: int) -> Image.Image:
    image = draw(kind, 7_000_000 + seed)
    return image.resize((400, round(400 * image.height / image.width)), Image.Resampling.LANCZOS)


@cache
def _poster(seed: int) -> Image.Image:
    return _picture("papers", seed)
