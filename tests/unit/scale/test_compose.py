"""compose.yaml: valid, and every port, path and setting is one that the code has."""

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from deploy.settings import ANY, ROOT, read_settings
from deploy.settings import ROWS as SERVING
from feedback.settings import ROWS as PAGES
from feedback.settings import read_settings as read_pages_settings

COMPOSE = ROOT / "compose.yaml"
OTHERS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "PGPASSWORD", "NODES", "LISTEN"}
"""Of boto, libpq, and scripts/container.sh."""


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return content


def ours(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: row for name, row in compose["services"].items() if row["image"].startswith("photoloop:")}


@pytest.mark.slow
def test_it_follows_the_schema_of_compose() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_setting_exists_and_is_valid(compose: dict[str, Any]) -> None:
    known = {name for name, _, _ in (*SERVING, *PAGES)} | OTHERS
    for name, service in ours(compose).items():
        assert set(service["environment"]) <= known, name
    node = read_settings(compose["services"]["node1"]["environment"])
    assert (node.metrics_host, node.front.tokenless) == (ANY, False)
    pages = read_pages_settings(compose["services"]["feedback"]["environment"])
    assert (pages.host, pages.inference) == (ANY, "http://edge:8086")


def test_the_ports_are_those_of_the_settings(compose: dict[str, Any]) -> None:
    services, ports = compose["services"], read_settings({}).ports
    front, pages = ports["front_port"], read_pages_settings({}).port
    assert services["edge"]["environment"] == {"NODES": f"nodes:{front}", "LISTEN": str(front)}
    assert services["edge"]["ports"] == [f"127.0.0.1:{front}:{front}"]
    assert services["feedback"]["ports"] == [f"127.0.0.1:{pages}:{pages}"]
    for node in ("node1", "node2"):
        assert f"127.0.0.1:{front}/ready" in str(services[node]["healthcheck"]["test"])
        assert services[node]["networks"] == {"default": {"aliases": ["nodes"]}}
    jobs = yaml.safe_load(compose["configs"]["prometheus"]["content"])["scrape_configs"]
    assert {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs} == {
        "torchserve": [f"node{number}:{ports['metrics_address']}" for number in (1, 2)],
        "classifier": [f"node{number}:{ports['keeper_port']}" for number in (1, 2)],
    }


def test_what_is_published_is_on_the_loopback_address(compose: dict[str, Any]) -> None:
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert published and all(port.startswith("127.0.0.1:") for port in published)


def test_our_containers_write_only_their_volume(compose: dict[str, Any]) -> None:
    for name, service in ours(compose).items():
        assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, "/tmp", ["ALL"]), name
        writable = [volume.split(":")[1] for volume in service.get("volumes", []) if not volume.endswith(":ro")]
        assert writable in (["/data"], []), name


def test_no_secret_is_written_down(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN$|SECRET|ACCESS_KEY", name):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), name
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    for name in [*re.findall(r"\$\{(\w+):\?", COMPOSE.read_text(encoding="utf-8")), "CLIENT_TOKENS"]:
        assert f"{name}=" in page, name


def test_the_dashboard_and_the_alerts_are_the_project_s(compose: dict[str, Any]) -> None:
    for name in ("alerts", "dashboard"):
        assert (ROOT / compose["configs"][name]["file"]).is_file()
    provider = yaml.safe_load(compose["configs"]["provider"]["content"])["providers"][0]["options"]["path"]
    targets = {row["source"]: row["target"] for row in compose["services"]["grafana"]["configs"]}
    assert targets["dashboard"].rpartition("/")[0] == provider
