"""A short part of benchmarks.fuzz: good photos between broken requests, on the session's server."""

from benchmarks.fuzz.__main__ import Fuzzer
from benchmarks.fuzz.generate import KINDS, Generator
from deploy.torchserve.process import Server
from tests.helpers.commands import SHIPPED


def test_every_answer_is_documented_and_good_photos_are_right(server: Server) -> None:
    report = Fuzzer(server.settings, "classroom", Generator(SHIPPED, seed=1)).run(iter(range(300)))
    assert report["broken"] == []
    assert report["requests"] == 300
    assert set(report["answers"]) == set(KINDS)
    assert report["answers"]["good"] == {"200": 75}
    assert report["files_left"] == 0
