"""A canary on a real TorchServe and a real nginx, under load: promoted, killed, expired, stopped."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import pytest
import requests

from benchmarks.harness.server import ServedModel, question
from benchmarks.harness.versions import rewrite
from deploy.clients.generator import NUMBER
from deploy.clients.load import Load
from deploy.rollout import roll_out
from deploy.settings import ROWS, Settings
from deploy.store import desired
from deploy.torchserve.process import Server
from handler import goldens
from tests.helpers.commands import command
from tests.helpers.light import pack_quickly, write_light_bundle
from tests.helpers.traffic.canary import Canary, running_canary
from tests.helpers.traffic.front import following, needs_nginx, running_front
from tests.helpers.waiting import eventually
from traffic import record
from traffic.front import route, tokens
from traffic.front.program import Front
from traffic.record import Record, State

pytestmark = needs_nginx

NAME = "tints"
INFERENCE = b"rows = self.inference(self.preprocess(data))\n"
FAILS = b"""
        if any(str(p.item.image_id)[-2:] in ("00", "20", "40", "60", "80") for row in rows for p in row.photos):
            raise RuntimeError("one request in twenty fails")
"""


class Clients(NamedTuple):
    """The model behind the front, and the environment of commands."""

    model: ServedModel
    front: Front
    environment: dict[str, str]

    def load(self) -> Load:
        """Two clients, each request with another image id; they pause, because a canary mostly waits for workers."""
        url, key = self.front.settings.url("front"), tokens.read(self.model.var)[tokens.FIRST]
        return Load(f"{url}/predictions/{NAME}", None, self.model.body, clients=2, pause_s=0.04, key=key)

    def canary(self, version: str, *options: str) -> AbstractContextManager[Canary]:
        """A running `traffic canary`, killed at the end of the block."""
        return running_canary(self.environment, f"{NAME}-{version}.mar", *options)

    def run_canary(self, version: str, *options: str) -> tuple[int, str]:
        """Its exit code and its output."""
        with self.canary(version, *options) as canary:
            return canary.end()

    def record(self) -> Record | None:
        return record.read(self.model.var, NAME)

    def served(self) -> dict[str, bool]:
        """Each version that is listed, and whether it is the default."""
        return {e.version: e.default for e in desired.read(self.model.var) if e.name == NAME}


@pytest.fixture(scope="module")
def clients(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    """The model `tints` 1.0 on the session's server, with a front."""
    bundle = write_light_bundle(tmp_path_factory.mktemp("canary") / NAME, NAME)
    settings, photo = server.settings, (bundle / goldens.read(bundle)[0].photo).read_bytes()
    for version in ("1.0", "1.1", "1.2"):
        mar = pack_quickly(bundle, version, settings.store)
    rewrite(mar, {"handler/service.py": lambda text: text.replace(INFERENCE, INFERENCE + FAILS)})
    roll_out(settings, settings.store / f"{NAME}-1.0.mar", quiet=True)
    environment = environment_of(settings)
    model = ServedModel(environment, NAME, question(photo) | {"image_id": NUMBER})
    try:
        with running_front(settings, rate=100_000, connections=10_000) as front, following(front):
            eventually(lambda: front_answers(front))
            yield Clients(model, front, environment)
    finally:
        for version in sorted(model.registered(), key=model.client.default(NAME).__eq__):  # the default last
            model.client.unregister(NAME, version)
        (settings.var / desired.FILE).unlink(missing_ok=True)
        for path in [*server.logs.glob("front*.log"), *server.logs.glob("shadow.log")]:
            path.unlink()  # another test lists the logs


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that give these settings."""
    ports = {name: str(settings.ports[key]) for name, key, _ in ROWS if key in settings.ports}
    folders = {"SERVE_STORE": str(settings.store), "SERVE_VAR": str(settings.var)}
    return {"PATH": "/usr/bin:/bin", **ports, **folders, "SERVE_WEB_PORT": "0"}


def front_answers(front: Front) -> bool:
    headers = {"Authorization": f"Bearer {tokens.read(front.settings.var)[tokens.FIRST]}"}
    answer = requests.post(f"{front.settings.url('front')}/predictions/{NAME}", data=b"x", headers=headers, timeout=30)
    return answer.status_code == 415


def test_a_killed_canary_goes_on_and_becomes_the_default_without_a_lost_request(clients: Clients) -> None:
    """Killed at the first share; the same command goes on there, switches the default and keeps the former version."""
    steps = ("--steps", "20,50,100", "--requests", "30", "--shadow", "100")
    with clients.load() as load:
        with clients.canary("1.1", "--steps", "20,50,100", "--requests", "100000", "--shadow", "0"):
            eventually(lambda: (found := clients.record()) and found.steps, seconds=120)
        left = route.read(clients.model.var, NAME)
        assert left and route.share(clients.model.var, left) == 20
        code, output = clients.run_canary("1.1", *steps)
        assert code == 0, output
        result = load.stop()
    assert (result.lost, result.failed, result.unanswered) == (0, 0, 0), result.as_json()
    assert set(result.versions) == {"1.0", "1.1"}
    assert clients.served() == {"1.1": True, "1.0": False} and clients.model.client.default(NAME) == "1.1"
    found = clients.record()
    assert found and found.state is State.PROMOTED and [step.share for step in found.steps] == [0.2, 0.5]
    log = (clients.model.var / "logs" / "front_error.log").read_text()
    assert "start worker" in log and "reconfiguring" not in log, "nginx was reloaded"
    rollback = json.loads(command("deploy", "rollback", NAME, "--json", env=clients.environment).stdout)
    assert rollback["version"] == "1.0", "the former version is kept as by a rollout"


def test_a_canary_without_requests_expires_and_one_that_fails_is_stopped(clients: Clients) -> None:
    """Exit codes 2 and 1; both leave what serves as it was, and nothing registered."""
    before, registered = clients.served(), clients.model.registered()
    code, output = clients.run_canary("1.2", "--deadline", "1s")
    assert (code, clients.served(), clients.model.registered()) == (2, before, registered), output
    assert "no decision before the deadline" in output
    with clients.canary("1.2", "--steps", "50,100", "--requests", "100000", "--shadow", "0") as canary:
        eventually(lambda: (found := clients.record()) and found.state is State.MEASURING, seconds=120)
        with clients.load() as load:
            code, output = canary.end()
            result = load.stop()
    assert (code, clients.served(), clients.model.registered()) == (1, before, registered), output
    assert "server errors: " in output and "were the candidate's" in output
    assert result.lost == 0 and set(result.statuses) == {200, 503}
    assert result.statuses[503] <= 100, "as many as an alarm needs, and not many more"
