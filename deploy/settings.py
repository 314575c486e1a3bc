"""Where TorchServe listens and keeps its files: environment, then config/config.properties, then defaults."""

import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import InvalidInput

ROOT = Path(__file__).resolve().parent.parent
PROPERTIES = ROOT / "config" / "config.properties"
HOST, ANY = "127.0.0.1", "0.0.0.0"
PROFILES = ("latency", "throughput")
RESERVE_MB = 256
WEB, WEB_PORT = "SERVE_WEB_PORT", 5000
FRONT_PORTS = {"front_port": "8086", "front_second_port": "8087"}
"""Of nginx (the package `traffic`). If one is taken, TorchServe serves all the same."""
FRONT_GRPC = {"front_grpc_port": "8088"}
DEFAULTS = {"keeper_port": "8083", **FRONT_PORTS, **FRONT_GRPC}
"""Properties that are ours, not TorchServe's."""
FRONT_HOST, FRONT_RATE, FRONT_CONNECTIONS = HOST, 200, 100
NODES, NO_NODES = "config/nodes.yaml", "none"
SWITCH = {"on": True, "off": False}

ROWS: tuple[tuple[str, str, str], ...] = (
    ("SERVE_INFERENCE_PORT", "inference_address", "predictions, HTTP"),
    ("SERVE_MANAGEMENT_PORT", "management_address", "registering versions, HTTP"),
    ("SERVE_METRICS_PORT", "metrics_address", "Prometheus metrics, HTTP"),
    ("SERVE_GRPC_INFERENCE_PORT", "grpc_inference_port", "predictions, gRPC"),
    ("SERVE_GRPC_MANAGEMENT_PORT", "grpc_management_port", "registering versions, gRPC"),
    ("SERVE_KEEPER_PORT", "keeper_port", "/ready and /metrics of the keeper, HTTP (default: 8083)"),
    ("SERVE_METRICS_HOST", "", f"address on which both /metrics answer, without a token (default: {HOST})"),
    ("SERVE_WEB_PORT", "", f"upload and review pages, HTTP; 0: do not start them (default: {WEB_PORT})"),
    ("SERVE_FRONT", "", "on or off: nginx in front of the nodes, where it is installed (default: on)"),
    ("SERVE_FRONT_HOST", "", f"address on which the front listens (default: {FRONT_HOST})"),
    ("SERVE_FRONT_PORT", "front_port", "predictions through the front, HTTP (default: 8086)"),
    ("SERVE_FRONT_SECOND_PORT", "front_second_port", "the same on a second port (default: 8087)"),
    ("SERVE_FRONT_GRPC_PORT", "front_grpc_port", "predictions through the front, gRPC (default: 8088)"),
    ("SERVE_FRONT_PROXIES", "", "addresses or networks of proxies whose X-Forwarded-For the front believes"),
    ("SERVE_FRONT_MODEL", "", "model that answers /api/v1/get_pm (default: the first in served.json)"),
    ("SERVE_FRONT_TOKENS", "", "JSON file CLIENT -> TOKEN, for fronts with equal tokens (default: made in var/front)"),
    ("SERVE_FRONT_TOKENLESS", "", "on or off: /api/v1/get_pm needs no token on this machine (default: on)"),
    ("SERVE_FRONT_RATE", "", f"requests that a client may send in a second (default: {FRONT_RATE})"),
    ("SERVE_FRONT_CONNECTIONS", "", f"requests of one address at the same time (default: {FRONT_CONNECTIONS})"),
    ("SERVE_NODES", "", f"file that lists the nodes; {NO_NODES}: only this one (default: {NODES})"),
    ("SERVE_FOLLOWS", "", "folder of the first of several nodes, whose versions this one serves; set by make up"),
    ("SERVE_STORE", "model_store", "folder of the archives"),
    ("SERVE_MEMORY_RESERVE", "", f"megabytes that must stay free while two versions run (default: {RESERVE_MB})"),
    ("SERVE_PROFILE", "", "latency or throughput: values measured by python -m deploy tune (default: the recipe's)"),
    ("SERVE_VAR", "", "folder of runtime files: keys, logs, sockets (default: var)"),
)
"""Environment variable, the property that it overrides, help."""


@dataclass(frozen=True)
class FrontSettings:
    """The front: nginx before the nodes.

    Attributes:
        on: whether `make up` starts it.
        host: IPv4 address on which it listens.
        model: answers /api/v1/get_pm; empty: the first in served.json.
        tokens: a file of the clients' tokens that is not ours to change; None: var/front/tokens.json.
        tokenless: whether a program of this machine needs no token for /api/v1/get_pm.
        rate: requests that one client may send in a second.
        connections: requests of one address at the same time.
        proxies: addresses or networks whose X-Forwarded-For names the client.
    """

    on: bool = False
    host: str = FRONT_HOST
    model: str = ""
    tokens: Path | None = None
    tokenless: bool = True
    rate: int = FRONT_RATE
    connections: int = FRONT_CONNECTIONS
    proxies: tuple[str, ...] = ()


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
        front: of nginx before the nodes.
        nodes: the file that lists the nodes (deploy/host/nodes.py); None: this is the only one.
        follows: `var` of the first node of a list, whose versions this one serves; None: this is the first.
        metrics_host: IPv4 address on which TorchServe's and the keeper's /metrics, and the keeper's /ready, answer.
    """

    ports: Mapping[str, int]
    store: Path
    var: Path
    properties: Mapping[str, str]
    reserve_mb: int = RESERVE_MB
    profile: str = ""
    web_port: int = 0
    front: FrontSettings = FrontSettings()
    metrics_host: str = HOST
    nodes: Path | None = None
    follows: Path | None = None

    def url(self, address: str) -> str:
        """The URL http://127.0.0.1:PORT of `inference`, `management`, `metrics`, `keeper` or `front`."""
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
        front=_front(environ),
        metrics_host=_metrics_host(environ.get("SERVE_METRICS_HOST") or HOST),
        nodes=None
        if environ.get("SERVE_NODES") == NO_NODES
        else (ROOT / (environ.get("SERVE_NODES") or NODES)).resolve(),
        follows=(ROOT / environ["SERVE_FOLLOWS"]).resolve() if environ.get("SERVE_FOLLOWS") else None,
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
    overridden["metrics_address"] = f"http://{settings.metrics_host}:{settings.ports['metrics_address']}"
    overridden["model_store"] = str(settings.store)
    return "".join(f"{key}={value}\n" for key, value in {**settings.properties, **overridden}.items())


def separate_environment(var: Path, store: Path) -> dict[str, str]:
    """The environment of a further server on this machine: its folders, free ports, no pages and no front."""
    names = [name for name, _, _ in ROWS if name.endswith("_PORT") and name != WEB]
    sockets = [socket.socket() for _ in names]
    try:
        for item in sockets:
            item.bind((HOST, 0))
        ports = {name: str(item.getsockname()[1]) for name, item in zip(names, sockets, strict=True)}
    finally:
        for item in sockets:
            item.close()
    return {**ports, WEB: "0", "SERVE_VAR": str(var), "SERVE_STORE": str(store), "SERVE_FRONT": "off"}


def _front(environ: Mapping[str, str]) -> FrontSettings:
    return FrontSettings(
        on=_switch(environ, "SERVE_FRONT"),
        host=_address(environ.get("SERVE_FRONT_HOST") or FRONT_HOST),
        model=_model(environ.get("SERVE_FRONT_MODEL") or ""),
        tokens=(ROOT / environ["SERVE_FRONT_TOKENS"]).resolve() if environ.get("SERVE_FRONT_TOKENS") else None,
        tokenless=_switch(environ, "SERVE_FRONT_TOKENLESS"),
        rate=_count(environ, "SERVE_FRONT_RATE", FRONT_RATE),
        connections=_count(environ, "SERVE_FRONT_CONNECTIONS", FRONT_CONNECTIONS),
        proxies=_networks(environ.get("SERVE_FRONT_PROXIES") or ""),
    )


def _switch(environ: Mapping[str, str], name: str) -> bool:
    text = environ.get(name) or "on"
    if text not in SWITCH:
        raise InvalidInput(f"{name}: {text!r} is neither on nor off", "give on or off")
    return SWITCH[text]


def _count(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= 10**6:
        raise InvalidInput(f"{name}: {text!r} is not a number of requests", f"give 1 or more, for example {default}")
    return int(text)


def _address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        fix = f"give {HOST}, the address of a network interface, or 0.0.0.0"
        raise InvalidInput(f"SERVE_FRONT_HOST: {text!r} is not an IPv4 address", fix) from error


def _metrics_host(text: str) -> str:
    if text not in (HOST, ANY):
        fix = f"give {HOST} (this machine only) or {ANY} (a container, whose network is its own)"
        raise InvalidInput(f"SERVE_METRICS_HOST: {text!r} is neither {HOST} nor {ANY}", fix)
    return text


def _networks(text: str) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_network(part.strip())) for part in text.split(",") if part.strip())
    except ValueError as error:
        fix = "give addresses or networks with commas between them, for example 10.0.0.5,10.1.0.0/16"
        raise InvalidInput(f"SERVE_FRONT_PROXIES: {error}", fix) from error


def _model(text: str) -> str:
    if not re.fullmatch(r"[\w.-]*", text, re.ASCII):
        raise InvalidInput(f"SERVE_FRONT_MODEL: {text!r} is not a model's name", "give a name of served.json")
    return text


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
