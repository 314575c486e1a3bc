"""kubernetes/: valid for Kubernetes 1.31 and newer, safe, and equal to the settings of the code."""

import functools
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.settings import ANY, ROOT, read_settings
from feedback.settings import read_settings as read_pages_settings

FOLDER = ROOT / "kubernetes"
VERSIONS = ("1.31", "1.37")
OTHERS = {"NODES", "LISTEN", "VERSION"}
"""Of scripts/container.sh, and of the manifest itself."""
needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which renders kustomize, is missing"
)

Manifest = dict[str, Any]


@functools.cache
def written() -> list[Manifest]:
    """Every manifest of the base, as it stands in its file."""
    files = sorted(path for path in (FOLDER / "base").rglob("*.yaml") if path.name != "kustomization.yaml")
    return [manifest for path in files for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


@functools.cache
def rendered(name: str) -> list[Manifest]:
    done = subprocess.run(["kubectl", "kustomize", FOLDER / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def found(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (manifest,) = [row for row in manifests if (row["kind"], row["metadata"]["name"]) == (kind, name)]
    return manifest


def pods(manifests: list[Manifest]) -> Iterator[Manifest]:
    """The specification of every pod."""
    for row in manifests:
        if row["kind"] == "Deployment":
            yield row["spec"]["template"]["spec"]
        if row["kind"] == "CronJob":
            yield row["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        if row["kind"] == "InferenceService":
            yield row["spec"]["predictor"]
            yield from (canary["predictor"] for canary in row["spec"]["canary"])


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def environment(container: Manifest) -> dict[str, str]:
    return {row["name"]: row.get("value", "token") for row in container["env"]}


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_the_manifests_are_valid(version: str) -> None:
    for manifest in written():
        kubernetes_validate.validate(manifest, version, strict=True)


@needs_kubectl
@pytest.mark.slow
@pytest.mark.parametrize("name", ["base", "overlays/gateway"])
def test_what_kustomize_makes_of_them_is_valid(name: str) -> None:
    for manifest in rendered(name):
        if "gateway.networking" not in manifest["apiVersion"]:
            kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
        assert manifest["metadata"]["namespace"] == "photoloop"


@needs_kubectl
def test_the_pods_of_the_inference_service_are_valid() -> None:
    (service,) = rendered("overlays/kserve")
    assert service["metadata"]["annotations"] == {"serving.kserve.io/deploymentMode": "Standard"}
    names = [service["spec"]["predictor"]["name"], *(row["predictor"]["name"] for row in service["spec"]["canary"])]
    assert len(set(names)) == len(names)
    assert sum(row["trafficPercent"] for row in service["spec"]["canary"]) <= 100
    for pod in pods([service]):
        own = {key: value for key, value in pod.items() if key not in ("name", "minReplicas")}
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod["name"]}, "spec": own}
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def test_a_schema_error_is_found() -> None:
    """The validation above can fail."""
    wrong = {**found(written(), "Service", "edge"), "spec": {"port": 8086}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@needs_kubectl
@pytest.mark.parametrize("name", ["base", "overlays/gateway", "overlays/kserve"])
def test_no_container_may_do_more_than_it_needs(name: str) -> None:
    for pod in pods(rendered(name)):
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
        mounts = {volume["name"] for volume in pod["volumes"]}
        for container in containers(pod):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] and security["capabilities"] == {"drop": ["ALL"]}
            assert not security["allowPrivilegeEscalation"]
            assert {"memory"} <= set(container["resources"]["limits"])
            assert {mount["name"] for mount in container["volumeMounts"]} <= mounts
            assert container["image"] == "registry.example/photoloop:0.1.0"
            assert container["args"][0] in ("serve", "traffic", "feedback", "deploy")


def test_secrets_are_named_and_none_is_made_up() -> None:
    assert not [row for row in written() if row["kind"] == "Secret"]
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    text = "".join(path.read_text() for path in FOLDER.rglob("*.yaml"))
    assert "secretGenerator" not in text
    for pod in pods(written()):
        names = [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
        for container in containers(pod):
            names += [row["secretRef"]["name"] for row in container.get("envFrom", []) if "secretRef" in row]
        assert all(f"secret generic {name}" in page for name in names)


def test_the_ports_and_settings_are_those_of_the_code() -> None:
    ports = read_settings({}).ports
    node = found(written(), "Deployment", "node")["spec"]["template"]["spec"]["containers"][0]
    settings = read_settings({name: text for name, text in environment(node).items() if name not in OTHERS})
    assert (settings.metrics_host, settings.front.tokenless) == (ANY, False)
    assert {row["name"]: row["containerPort"] for row in node["ports"]} == {
        "front": ports["front_port"],
        "torchserve": ports["metrics_address"],
        "classifier": ports["keeper_port"],
    }
    allowed = found(written(), "NetworkPolicy", "node")["spec"]["ingress"]
    assert [[row["port"] for row in rule["ports"]] for rule in allowed] == [
        [ports["front_port"]],
        [ports["metrics_address"], ports["keeper_port"]],
    ]
    edge = found(written(), "Deployment", "edge")["spec"]["template"]["spec"]["containers"][0]
    assert environment(edge)["NODES"] == f"node.photoloop.svc.cluster.local:{ports['front_port']}"
    pages = found(written(), "Deployment", "feedback")["spec"]["template"]["spec"]["containers"][0]
    read = read_pages_settings(environment(pages))
    assert (read.inference, read.host) == (f"http://edge:{ports['front_port']}", ANY)
    assert pages["ports"][0]["containerPort"] == read.port


def test_a_node_is_drained_before_it_ends_and_replaced_before_it_stops() -> None:
    spec = found(written(), "Deployment", "node")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pod = spec["template"]["spec"]
    (node,) = pod["containers"]
    assert node["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "10"]
    assert pod["terminationGracePeriodSeconds"] == 90
    for probe in ("startupProbe", "readinessProbe"):
        assert node[probe]["httpGet"] == {"path": "/ready", "port": "front"}
    assert "livenessProbe" not in node
    assert found(written(), "Service", "node")["spec"]["clusterIP"] == "None"


@needs_kubectl
def test_the_services_of_stable_and_candidate_share_no_pod() -> None:
    manifests = rendered("overlays/gateway")
    route = found(manifests, "HTTPRoute", "predictions")["spec"]["rules"][0]["backendRefs"]
    assert sum(row["weight"] for row in route) == 100
    for row in route:
        service = found(manifests, "Service", row["name"])
        assert [port["port"] for port in service["spec"]["ports"]] == [row["port"]]
    for app in ("node", "edge"):
        labels = {
            name: found(manifests, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
            for name in (app, f"{app}-candidate")
        }
        for name, own in labels.items():
            assert found(manifests, "Service", name)["spec"]["selector"] == own
        assert labels[app] != labels[f"{app}-candidate"]
    edge = found(manifests, "Deployment", "edge-candidate")["spec"]["template"]["spec"]["containers"][0]
    assert environment(edge)["NODES"].startswith("node-candidate.photoloop.svc.")


def test_the_nightly_command_has_these_options() -> None:
    (pod,) = [pod for pod in pods(written()) if pod["containers"][0]["name"] == "nightly"]
    package, command, *options = pod["containers"][0]["args"]
    from feedback.nightly import nightly

    assert (package, command) == ("feedback", nightly.name)
    known = {option for parameter in nightly.params for option in parameter.opts}
    assert {option.partition("=")[0] for option in options} <= known
    required = {parameter.opts[0] for parameter in nightly.params if parameter.required}
    assert required <= {option.partition("=")[0] for option in options}


def test_the_scaling_metric_is_one_that_the_adapter_makes_of_what_torchserve_has() -> None:
    rule = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())["rules"]["custom"][0]
    metric = found(written(), "HorizontalPodAutoscaler", "node")["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert rule["name"] == {"as": metric}
    dashboard = (ROOT / "config" / "dashboard.json").read_text(encoding="utf-8")
    for series in ("ts_queue_latency_microseconds", "ts_inference_requests_total"):
        assert series in rule["metricsQuery"] and series in dashboard
