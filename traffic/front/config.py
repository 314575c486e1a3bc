"""nginx's configuration: config/nginx.conf.j2, filled in from the settings, the nodes and the tokens."""

import functools
import grp
import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import replace

import jinja2

from common.errors import UserError
from deploy.settings import FRONT_PORTS, ROOT, Settings
from deploy.store import desired
from traffic.front.errors import ERRORS, FrontError
from traffic.front.folder import folder, shadow_socket, sockets
from traffic.front.nodes import Node
from traffic.front.route import NUMBERS

TEMPLATE = ROOT / "config" / "nginx.conf.j2"
WORKERS = 2
EXTRA_S = 15
"""The front waits longer for a node than the node for its worker, so that the node's own answer arrives."""


def render(settings: Settings, nodes: Sequence[Node], tokens: Mapping[str, str]) -> str:
    """The text of nginx.conf.

    Args:
        tokens: client -> token.
    """
    properties, front = settings.properties, settings.front
    body_bytes = int(properties["max_request_size"])
    return _template().render(
        **_user(),
        workers=WORKERS,
        folder=folder(settings.var),
        sockets=sockets(settings.var),
        shadow=shadow_socket(settings.var),
        logs=settings.var / "logs",
        host=front.host,
        ports=[settings.ports[key] for key in FRONT_PORTS],
        grpc_port=settings.ports["front_grpc_port"],
        proxies=front.proxies,
        nodes=nodes,
        tokens=sorted(tokens.items()),
        tokenless=front.tokenless,
        model=front.model or first_model(settings),
        numbers=NUMBERS,
        rate=front.rate,
        connections=front.connections,
        body_bytes=body_bytes,
        answer_s=int(properties["default_response_timeout"]) + EXTRA_S,
        errors=[_with_limit(error, body_bytes) for error in ERRORS],
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def first_model(settings: Settings) -> str:
    """The first default version's name in served.json; empty if nothing is served or the file is damaged."""
    try:
        return next((entry.name for entry in desired.read(settings.var) if entry.default), "")
    except UserError:
        return ""


def _with_limit(error: FrontError, body_bytes: int) -> FrontError:
    return replace(error, message=error.message.format(megabytes=body_bytes // 10**6))


def _user() -> dict[str, str]:
    """nginx's workers run as we do: by itself nginx would give up root, and could not read `var`."""
    if os.getuid():
        return {"user": "", "group": ""}
    return {"user": pwd.getpwuid(0).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
