"""The image itself, built without a container engine. Twenty minutes and gigabytes: only with BUILD_IMAGE.

BUILD_IMAGE=1 BUILD_OPTIONS="--build-arg REQUIREMENTS=requirements/serving.txt" pytest tests/e2e/test_image.py
BUILD_IMAGE=localhost/photoloop pytest tests/e2e/test_image.py      # an image that was built before
"""

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from deploy.settings import HOST, ROOT, separate_environment
from handler import goldens
from tests.helpers.commands import SHIPPED
from tests.helpers.running.container import USER
from tests.helpers.waiting import eventually

WANTED = os.environ.get("BUILD_IMAGE", "")
MISSING = [tool for tool in ("buildah", "mmdebstrap") if shutil.which(tool) is None]
BASE, BUILT = "localhost/photoloop-test-base", "localhost/photoloop-test"
GRACE_S = 90  # docs/scale.md

pytestmark = [
    pytest.mark.skipif(not WANTED, reason="building the image takes 20 minutes: BUILD_IMAGE=1 (docs/scale.md)"),
    pytest.mark.skipif(bool(MISSING or os.geteuid()), reason=f"needs root and buildah, mmdebstrap; missing: {MISSING}"),
]


def buildah(*words: object) -> str:
    done = subprocess.run(["buildah", *map(str, words)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    if WANTED != "1":
        return WANTED
    archive = tmp_path_factory.mktemp("base") / "base.tar"
    subprocess.run(["mmdebstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", archive], check=True)
    empty = buildah("from", "scratch")
    buildah("add", empty, archive, "/")
    buildah("commit", "--rm", empty, BASE)
    options = (
        "--isolation",
        "chroot",
        "--build-arg",
        f"BASE={BASE}",
        *shlex.split(os.environ.get("BUILD_OPTIONS", "")),
    )
    buildah("bud", *options, "-t", BUILT, ".")
    return BUILT


@pytest.fixture
def container(image: str) -> Iterator[str]:
    name = buildah("from", "--pull-never", image)
    yield name
    buildah("rm", name)


def test_it_answers_a_golden_photo_as_any_user_and_ends_after_sigterm(container: str, tmp_path: Path) -> None:
    here = separate_environment(tmp_path, tmp_path)
    ports = [f"--env={name}={value}" for name, value in here.items() if name.endswith("_PORT")]
    words = ["buildah", "run", "--isolation", "chroot", "--user", f"{USER}:0", *ports, container, "--"]
    log = tmp_path / "container.log"
    with log.open("wb") as output:
        process = subprocess.Popen([*words, "/opt/photoloop/scripts/container.sh"], stdout=output, stderr=output)
    try:
        url = f"http://{HOST}:{here['SERVE_FRONT_PORT']}"
        eventually(lambda: answers(url), 300, log.read_text)
        for golden in goldens.read(SHIPPED)[:2]:
            reply = requests.post(f"{url}/api/v1/get_pm", (SHIPPED / golden.photo).read_bytes(), timeout=60)
            assert reply.json() == {"image_id": None, "result": golden.label}
        server = serving(process)
        assert server.uids().real == USER
        server.send_signal(signal.SIGTERM)
        assert process.wait(GRACE_S) == 0, log.read_text()
    finally:
        for one in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
            one.kill()


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/ready", timeout=5).ok
    except requests.RequestException:
        return False


def serving(process: subprocess.Popen[bytes]) -> psutil.Process:
    """`python -m deploy serve`, the first process of the image that is not buildah's."""
    family = psutil.Process(process.pid).children(recursive=True)
    return next(one for one in family if one.cmdline()[1:4] == ["-m", "deploy", "serve"])
