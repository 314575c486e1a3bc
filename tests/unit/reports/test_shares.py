"""The statistics against synthetic truths: how often intervals cover, and how often the week of a move is found."""

from collections.abc import Callable

import numpy as np
import pytest

from reports.shares.changes import Move, find_move
from reports.shares.correct import (
    Accuracy,
    Outside,
    Share,
    Stratum,
    accuracy_of,
    accuracy_of_strata,
    corrected_share,
    raw_share,
)

SENSITIVITY, SPECIFICITY = 0.98, 0.97
REGIONS, WEEKS = 34, 20


Review = Callable[[np.random.Generator, np.ndarray], Accuracy]


def bounds(share: Share | None) -> tuple[float, float]:
    assert share
    return share.low, share.high


def cover(intervals: np.ndarray, truth: np.ndarray) -> float:
    """Which part of the intervals, shape (count, 2), holds the truth, shape (count,)."""
    return float(np.mean((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])))


def reviewed(rng: np.random.Generator, truth: np.ndarray, count: int = 300) -> Accuracy:
    """A random sample of all photos with its true labels."""
    positive = rng.binomial(count, truth.mean())
    right = rng.binomial(positive, SENSITIVITY)
    right_other = rng.binomial(count - positive, SPECIFICITY)
    return accuracy_of(right, positive - right, right_other, count - positive - right_other)


def strata(rng: np.random.Generator, truth: np.ndarray, count: int = 300, outside: Outside | None = None) -> Accuracy:
    """Half of the sample from each answer of the classifier, as `reports sample` draws it."""
    share = truth.mean()
    true_positive, false_positive = share * SENSITIVITY, (1 - share) * (1 - SPECIFICITY)
    answered = true_positive + false_positive
    right = rng.binomial(count // 2, true_positive / answered)
    right_other = rng.binomial(count // 2, (1 - share) * SPECIFICITY / (1 - answered))
    photos = int(1e6 * answered)
    half = count // 2
    answers = [Stratum(True, photos, half, right), Stratum(False, 10**6 - photos, half, right_other)]
    return accuracy_of_strata(answers, outside)


@pytest.mark.slow
@pytest.mark.parametrize("review", [reviewed, strata])
@pytest.mark.parametrize(("photos", "step"), [(60, 1), (400, 10)])
def test_95_percent_intervals_cover_93_to_97_percent(review: Review, photos: int, step: int) -> None:
    """In 80 periods, each with its own reviewed sample; of 400 photos in every tenth region and week, to save time."""
    rng = np.random.default_rng(1)
    truth = np.geomspace(0.01, 0.8, REGIONS * WEEKS)
    raw = np.array([bounds(raw_share(count, photos)) for count in range(photos + 1)])
    corrected_covers, raw_covers = [], []
    for period in range(80):
        accuracy = review(rng, truth)
        some = truth[period % step :: step]
        read = rng.binomial(photos, some * SENSITIVITY + (1 - some) * (1 - SPECIFICITY))
        known = {count: bounds(corrected_share(count, photos, accuracy)) for count in set(read.tolist())}
        corrected_covers.append(cover(np.array([known[count] for count in read.tolist()]), some))
        raw_covers.append(cover(raw[read], some))
    assert 0.93 <= np.mean(corrected_covers) <= 0.97
    assert np.mean(raw_covers) < np.mean(corrected_covers) - 0.02


@pytest.mark.slow
@pytest.mark.parametrize("shares", [(0.3, 0.1, 0.6), (0.02, 0.02, 0.96)])
def test_class_photos_out_of_scope_are_part_of_the_share(shares: tuple[float, float, float]) -> None:
    """Calls are taken for out of scope more often than rooms; unless such photos are reviewed, their share is low."""
    rng = np.random.default_rng(6)
    truth, photos, lost = np.geomspace(0.02, 0.8, 200), 400, 60
    real = (truth * photos + shares[0] * lost) / (photos + sum(shares[:2]) * lost)
    covered: list[float] = []
    without: list[float] = []
    for _ in range(8):
        accuracy = strata(rng, truth, outside=Outside(*map(int, rng.multinomial(50, shares))))
        read = rng.binomial(photos, truth * SENSITIVITY + (1 - truth) * (1 - SPECIFICITY)).tolist()
        for found, outside in ((covered, lost), (without, 0)):
            intervals = [bounds(corrected_share(count, photos, accuracy, outside)) for count in read]
            found.append(cover(np.array(intervals), real))
    assert np.mean(covered) >= 0.93
    assert np.mean(without) < 0.85 or shares[0] < 0.1


def test_a_rare_label_is_not_reported_half_too_often() -> None:
    """2 % read by a classifier with 99 % each is 2.96 %."""
    accuracy = accuracy_of(990, 10, 990, 10)
    share = corrected_share(2960, 100_000, accuracy)
    assert share is not None
    assert share.value == pytest.approx(0.02, abs=0.003)
    assert share.low < 0.02 < share.high


def test_nothing_is_said_where_it_cannot_be_said() -> None:
    good = accuracy_of(98, 2, 97, 3)
    assert corrected_share(5, 9, good) is None
    assert corrected_share(5, 10, good) is not None
    assert corrected_share(50, 100, accuracy_of(10, 1, 10, 1)) is None  # too few reviewed
    assert corrected_share(50, 100, accuracy_of(60, 40, 60, 40)) is None  # as good as guessing
    assert corrected_share(50, 100, accuracy_of_strata([])) is None
    assert raw_share(0, 0) is None


@pytest.mark.parametrize("positive", [0, 12])
def test_intervals_stay_within_0_and_1(positive: int) -> None:
    share = corrected_share(positive, 12, accuracy_of(98, 2, 97, 3))
    assert share is not None
    assert 0 <= share.low <= share.value <= share.high <= 1


def test_the_interval_of_a_raw_share_holds_it() -> None:
    for positive, photos in ((0, 1), (1, 1), (0, 40), (40, 40), (1, 40)):
        share = raw_share(positive, photos)
        assert share is not None
        assert share.low <= share.value <= share.high


def test_an_interval_has_a_width_where_the_reviewed_rates_do_not_hold() -> None:
    """5 of 400 with a specificity of 95 %: more are expected by error alone."""
    few, many = (corrected_share(count, 400, accuracy_of(475, 25, 475, 25)) for count in (1, 399))
    assert few is not None
    assert many is not None
    assert (few.low, many.high) == (0, 1)
    assert few.high > 0.005
    assert many.low < 0.995


def simulated(rng: np.random.Generator, moved: int, back: int, photos: int) -> Move:
    inside = (np.arange(WEEKS) >= moved) & (np.arange(WEEKS) < back)
    truth = np.where(inside, 0.95, 0.05)
    posted = rng.poisson(photos, WEEKS)
    return find_move(rng.binomial(posted, truth * SENSITIVITY + (1 - truth) * (1 - SPECIFICITY)), posted)


def test_the_week_of_the_move_is_found_within_one_week() -> None:
    rng = np.random.default_rng(2)
    starts, ends, held = [], [], []
    for _ in range(300):
        moved = int(rng.integers(2, 12))
        back = moved + int(rng.integers(3, 12))
        found = simulated(rng, moved, back, photos=5)
        starts.append(found.moved is not None and abs(found.moved.week - moved) <= 1)
        held.append(found.moved is not None and found.moved.low <= moved <= found.moved.high)
        if back < WEEKS - 1:
            ends.append(found.back is not None and abs(found.back.week - back) <= 1)
    assert np.mean(starts) >= 0.9
    assert np.mean(ends) >= 0.9
    assert np.mean(held) >= 0.9


def test_an_institution_that_stays_is_not_said_to_have_moved() -> None:
    rng = np.random.default_rng(3)
    states = [simulated(rng, WEEKS, WEEKS, photos=5).state for _ in range(200)]
    assert states.count("moved") <= 2
    assert states.count("stayed") >= 180


def test_states_of_few_photos_and_of_an_early_move() -> None:
    rng = np.random.default_rng(4)
    assert simulated(rng, 0, WEEKS, photos=5).state == "always"
    assert find_move(np.array([0, 1, 1]), np.array([1, 1, 2])).state == "too_few"
    gap = find_move(np.array([0, 0, 0, 5, 5]), np.array([5, 0, 0, 5, 5])).moved
    assert gap is not None
    assert (gap.low, gap.week, gap.high) == (1, 2, 3)  # nothing was posted for two weeks: it moved in any of them


@pytest.mark.parametrize("quiet", [0, 1, 3, 12])
def test_weeks_without_a_photo_say_nothing(quiet: int) -> None:
    """An institution that stops posting, or has not begun, has neither moved nor moved back."""
    none = [0] * quiet

    def found(*positive: int) -> Move:
        return find_move(np.array([*none, *positive, *none]), np.array([*none, *[5] * len(positive), *none]))

    assert (found(0, 0, 0, 0, 0).state, found(5, 5, 5, 5).state, found(5, 5, 5, 5).back) == ("stayed", "always", None)
    online = found(0, 0, 0, 5, 5, 5, 5)
    assert online.moved is not None
    assert (online.state, online.moved.week, online.back) == ("moved", quiet + 3, None)
    offline = found(5, 5, 5, 5, 0, 0, 0)
    assert offline.back is not None
    assert (offline.state, offline.back.week) == ("always", quiet + 4)
