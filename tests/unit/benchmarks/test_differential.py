"""Every kind of file is decoded as it was written and as libvips decodes it, or is refused with the right code."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("pyvips", reason="pyvips is not installed: run make test")

from benchmarks.differential.case import Case
from benchmarks.differential.judge import WRITERS, judge

STEP = {"jpeg2000": 3, "png": 3, "bmp": 5, "tiff": 37, "lossy": 3}  # every how many files: all of them take a minute


def sample(writer: str) -> list[Case]:
    return list(itertools.islice(WRITERS[writer](5), 0, None, STEP[writer]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("writer", WRITERS)
def test_no_file_is_decoded_otherwise_than_elsewhere(writer: str) -> None:
    judgements = [judge(case) for case in sample(writer)]
    assert [f"{found.case.name}: {found.result}" for found in judgements if not found.right] == []
    assert sum(found.result == "agrees" for found in judgements) > len(judgements) / 5


def test_other_pixels_a_lost_turn_and_a_wrong_code_are_found() -> None:
    case = sample("png")[0]
    assert case.written is not None and judge(case).right
    assert not judge(replace(case, written=255 - case.written)).right
    assert not judge(replace(case, written=np.rot90(case.written))).right
    assert not judge(replace(case, code="unsupported_format")).right
    assert not judge(replace(case, source=case.data[:60])).right
