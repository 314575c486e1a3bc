"""What benchmarks.fuzz counts as a wrong answer."""

import json
from typing import Any

import pytest

from benchmarks.fuzz.findings import Findings, judge, summary, table
from benchmarks.fuzz.generate import Generator, Sent
from handler.goldens import Golden
from tests.helpers.commands import SHIPPED

GOOD = Sent("good", goldens=(Golden("a.jpg", "online", (0.1, 0.9)),))
BROKEN, STAR, HEAD = Sent("json"), Sent("line", path="*"), Sent("line", method="HEAD")
RIGHT = {"result": "online", "probabilities": {"offline": 0.11, "online": 0.89}}
INVALID = {"error": {"code": "invalid_json"}}


@pytest.mark.parametrize(
    ("sent", "status", "answer", "right"),
    [
        (GOOD, 200, RIGHT, True),
        (GOOD, 200, {**RIGHT, "result": "offline"}, False),
        (GOOD, 200, {**RIGHT, "probabilities": {"offline": 0.2, "online": 0.8}}, False),
        (GOOD, 200, {"result": "online"}, False),
        (GOOD, 200, [RIGHT], False),
        (GOOD, 400, INVALID, False),
        (GOOD, 0, "refused", False),
        (BROKEN, 200, RIGHT, True),
        (BROKEN, 400, INVALID, True),
        (BROKEN, 400, [INVALID, INVALID], True),
        (BROKEN, 413, INVALID, False),
        (BROKEN, 500, {"error": {"code": "internal_error"}}, False),
        (BROKEN, 400, [INVALID, {"error": {"code": "internal_error"}}], False),
        (BROKEN, 500, {"code": 500, "message": "x"}, False),
        (BROKEN, 503, "", False),
        (BROKEN, 404, {"code": 404}, True),
        (BROKEN, 0, "", False),
        (STAR, 500, {"code": 500}, True),
        (HEAD, 415, "", True),
        (HEAD, 500, "", False),
    ],
)
def test_an_answer_is_judged(sent: Sent, status: int, answer: Any, right: bool) -> None:
    assert (judge(sent, status, json.dumps(answer).encode())[1] == "") is right


def test_growing_memory_and_files_are_reported() -> None:
    found = Findings(memory=[*([100.0] * 10), *([200.0] * 20), *([300.0] * 10)])
    found.add(7, BROKEN, 503, b"{}", 0.5)
    report = summary(found, ["FUp_1.tmp"])
    assert report["growth_mb"] == 100
    assert [text.partition(":")[0] for text in report["broken"]] == [
        "request 7 (json)",
        "1 answers were wrong",
        "temporary files were left",
        "the workers' memory grew by 100 MB",
    ]
    assert "| json | 1 |" in table(report)
    assert summary(Findings(memory=[100.0] * 50), [])["broken"] == []
    assert summary(Findings(memory=[100.0, 900.0]), [])["broken"] == []


def test_a_request_is_made_from_its_number_alone() -> None:
    first, again = Generator(SHIPPED, seed=2), Generator(SHIPPED, seed=2)
    numbers = range(0, 400, 7)
    assert [first.request(number) for number in numbers] == [again.request(number) for number in reversed(numbers)][
        ::-1
    ]
    assert Generator(SHIPPED, seed=3).request(1) != first.request(1)
