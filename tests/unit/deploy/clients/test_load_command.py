"""`deploy load` against a real nginx and a node that stands in: figures, errors by code, the chart, wrong options."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner

from common.errors import UserError
from deploy.clients.chart import latency_chart
from deploy.clients.generator import LOST, UNANSWERED, Sample
from deploy.clients.load import Result
from deploy.load import bodies_of, load
from deploy.settings import read_settings, separate_environment
from tests.helpers.pictures import encode, photo
from tests.helpers.traffic.front import needs_nginx, running_front
from tests.helpers.traffic.node import standin
from tests.helpers.waiting import eventually
from traffic.front import tokens
from traffic.front.nodes import nodes

SVG = "{http://www.w3.org/2000/svg}"


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(load, [str(word) for word in words])
    return done.exit_code, done.output if done.exception is None or done.exit_code else repr(done.exception)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(encode(photo(seed=number), "JPEG"))
    return folder


@pytest.mark.slow
@needs_nginx
def test_latencies_errors_and_a_chart_of_a_load_through_the_front(tmp_path: Path, photos: Path) -> None:
    """Each fifth answer is an error: it is counted by its code, and drawn as a cross."""
    settings = read_settings(separate_environment(tmp_path / "var", tmp_path / "store"))
    settings.var.mkdir(mode=0o700)
    (node,) = nodes(settings)
    with running_front(settings, rate=100_000) as front, standin(node, "key", lambda path, number: number % 5 == 0):
        options = ["--url", front.settings.url("front"), "--token", tokens.read(settings.var)[tokens.FIRST]]
        more = ["--model", "shapes", "--seconds", "1", "--json"]
        eventually(lambda: '"200"' in run(photos, *options, *more, "--clients", "1")[1], seconds=20)
        chart = tmp_path / "load.svg"
        code, text = run(photos, *options, *more, "--rate", "40", "--chart", chart)
    found = json.loads(text[text.index("{") :])
    assert code == 0 and found["sent"] == sum(found["statuses"].values())
    assert found["errors"] == {"http_500": found["statuses"]["500"]} and found["errors"]["http_500"] > 1
    assert 0 < found["p50_ms"] <= found["p90_ms"] <= found["p99_ms"] <= found["max_ms"]
    drawn = ET.parse(chart).getroot()
    assert len(drawn.findall(f"{SVG}circle")) == found["statuses"]["200"]


def test_a_chart_marks_what_was_not_answered() -> None:
    samples = [Sample(0.1, 0.1, 5.0, 200, "a", None), Sample(0.2, 0.2, 9.0, LOST, None, None)]
    result = Result(0.0, 1.0, 0.0, [*samples, Sample(0.3, 0.3, 9.0, UNANSWERED, None, None)])
    drawn = ET.fromstring(latency_chart(result, "<a & b>"))
    crosses = [path for path in drawn.findall(f"{SVG}path") if path.get("stroke") == "#da1e28"]
    assert (len(drawn.findall(f"{SVG}circle")), len(crosses)) == (1, 2)
    assert drawn.findtext(f"{SVG}title") == "<a & b>"
    assert result.errors == {LOST: 1, UNANSWERED: 1}


def test_wrong_options_and_empty_folders_are_refused(tmp_path: Path, photos: Path) -> None:
    for words, said in (
        ((photos, "--rate", 1, "--clients", 1), "--rate and --clients exclude each other"),
        ((photos, "--url", "https://127.0.0.1:8086", "--model", "a"), "is not the address of a front"),
        ((tmp_path / "photos" / "0.jpg", "--url", "http://127.0.0.1:1", "--model", "a", "--seconds", 0.2), "answered"),
    ):
        code, text = run(*words)
        assert code == 1 and said in text, text
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no photo"):
        bodies_of(tmp_path / "empty")
    assert [body["image_id"] for body in bodies_of(photos)] == ["0.jpg", "1.jpg", "2.jpg"]
