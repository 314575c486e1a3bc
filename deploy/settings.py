"""Where TorchServe listens and keeps its files: environment, then config/config.properties, then defaults."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import InvalidInput

ROOT = Path(__file__).resolve().parent.parent
PROPERTIES = ROOT / "config" / "config.properties"
HOST = "127.0.0.1"
PROFILES = ("latency", "throughput")
RESERVE_MB = 256
WEB, WEB_PORT = "SERVE_WEB_PORT", 5000
DEFAULTS = {"keeper_port": "8083"}
"""Properties that are ours, not TorchServe's."""

ROWS: tuple[tuple[str, str, str], ...] = (
    ("SERVE_INFERENCE_PORT", "inference_address", "predictions, HTTP"),
    ("SERVE_MANAGEMENT_PORT", "management_address", "registering versions, HTTP"),
    ("SERVE_METRICS_PORT", "metrics_address", "Prometheus metrics, HTTP"),
    ("SERVE_GRPC_INFERENCE_PORT", "grpc_inference_port", "predictions, gRPC"),
    ("SERVE_GRPC_MANAGEMENT_PORT", "grpc_management_port", "registering versions, gRPC"),
    ("SERVE_KEEPER_PORT", "keeper_port", "/ready and /metrics of the keeper, HTTP (default: 8083)"),
    ("SERVE_WEB_PORT", "", f"upload and review pages, HTTP; 0: do not start them (default: {WEB_PORT})"),
    ("SERVE_STORE", "model_store", "folder of the archives"),
    ("SERVE_MEMORY_RESERVE", "", f"megabytes that must stay free while two versions run (default: {RESERVE_MB})"),
    ("SERVE_PROFILE", "", "latency or throughput: values measured by python -m deploy tune (default: the recipe's)"),
    ("SERVE_VAR", "", "folder of runtime files: keys, logs, sockets (default: var)"),
)
"""Environment variable, the property that it overrides, help."""


@dataclass(frozen=True)
class Settings:
    """Resolved settings.

    Attributes:
        ports: property -> TCP port on the loopback address.
        store: folder of the archives.
        var: folder of runtime files.
        properties: config/config.properties.
        reserve_mb: megabytes that must stay free while two versions run.
        profile: a member of PROFILES, or empty.
        web_port: TCP port of the upload and review pages; 0: they are not started.
    """

    ports: Mapping[str, int]
    store: Path
    var: Path
    properties: Mapping[str, str]
    reserve_mb: int = RESERVE_MB
    profile: str = ""
    web_port: int = 0

    def url(self, address: str) -> str:
        """The URL http://127.0.0.1:PORT of `inference`, `management`, `metrics` or `keeper`."""
        key = f"{address}_port" if f"{address}_port" in DEFAULTS else f"{address}_address"
        return f"http://{HOST}:{self.ports[key]}"


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Resolve all settings.

    Raises:
        InvalidInput: a value is not valid; the message names the variable and the valid values.
    """
    environ = os.environ if environ is None else environ
    properties = read_properties(PROPERTIES)
    ports = {
        key: _port(environ.get(name) or (DEFAULTS | properties).get(key, ""), name)
        for name, key, _ in ROWS
        if key.endswith(("_address", "_port"))
    }
    equal = [name for name, key, _ in ROWS if key in ports and list(ports.values()).count(ports[key]) > 1]
    if equal:
        raise InvalidInput(f"{' and '.join(equal)} are the same port", "give each a different one")
    return Settings(
        ports=ports,
        store=(ROOT / (environ.get("SERVE_STORE") or properties["model_store"])).resolve(),
        var=(ROOT / (environ.get("SERVE_VAR") or "var")).resolve(),
        properties=properties,
        reserve_mb=_megabytes(environ.get("SERVE_MEMORY_RESERVE") or str(RESERVE_MB)),
        profile=_profile(environ.get("SERVE_PROFILE") or ""),
        web_port=0
        if environ.get("SERVE_WEB_PORT") == "0"
        else _port(environ.get("SERVE_WEB_PORT") or str(WEB_PORT), WEB),
    )


def read_properties(path: Path) -> dict[str, str]:
    """Read a Java properties file of plain KEY=VALUE lines."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in pairs}


def resolved_properties(settings: Settings) -> str:
    """The text of the properties file that TorchServe starts with: ours, with ports and store of the settings."""
    overridden = {
        key: f"http://{HOST}:{port}" if key.endswith("_address") else str(port)
        for key, port in settings.ports.items()
        if key not in DEFAULTS
    }
    overridden["model_store"] = str(settings.store)
    return "".join(f"{key}={value}\n" for key, value in {**settings.properties, **overridden}.items())


def separate_environment(var: Path, store: Path) -> dict[str, str]:
    """The environment of a further server on this machine: its folders, ports that are free now, and no pages."""
    names = [name for name, _, _ in ROWS if name.endswith("_PORT") and name != WEB]
    sockets = [socket.socket() for _ in names]
    try:
        for item in sockets:
            item.bind((HOST, 0))
        ports = {name: str(item.getsockname()[1]) for name, item in zip(names, sockets, strict=True)}
    finally:
        for item in sockets:
            item.close()
    return {**ports, WEB: "0", "SERVE_VAR": str(var), "SERVE_STORE": str(store)}


def _megabytes(text: str) -> int:
    if not text.isdigit():
        raise InvalidInput(f"SERVE_MEMORY_RESERVE: {text!r} is not a size", "give megabytes, for example 256")
    return int(text)


def _profile(text: str) -> str:
    if text and text not in PROFILES:
        fix = f"give {' or '.join(PROFILES)}, or leave it empty"
        raise InvalidInput(f"SERVE_PROFILE: {text!r} is not a profile", fix)
    return text


def _port(text: str, name: str) -> int:
    number = text.rpartition(":")[2]
    if not number.isdigit() or not 1 <= int(number) <= 65535:
        raise InvalidInput(f"{name}: {text!r} is not a port", "give a number from 1 to 65535")
    return int(number)
