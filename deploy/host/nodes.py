"""The nodes of this machine: config/nodes.yaml, or the file that SERVE_NODES names.

The first node is that of the settings. The others differ from it in ports and `var`, have neither pages nor a front,
and share the store. A change of what is served is a change of all of them.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import InvalidInput
from deploy.settings import NO_NODES, ROOT, ROWS, FrontSettings, Settings

PORTS = {
    "inference": "inference_address",
    "management": "management_address",
    "metrics": "metrics_address",
    "grpc_inference": "grpc_inference_port",
    "grpc_management": "grpc_management_port",
    "keeper": "keeper_port",
}
"""Name in the file -> property."""
_Port = Annotated[int, Field(ge=1, le=65535)]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,15}$")]
    var: str = ""
    ports: dict[str, _Port] = {}
    weight: Annotated[int, Field(ge=1, le=100)] = 1


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    nodes: Annotated[list[_Row], Field(min_length=1, max_length=16)]


@dataclass(frozen=True)
class NodeSettings:
    """One node.

    Attributes:
        name: of the list; letters and digits.
        settings: its ports and its `var`.
        weight: requests that the front sends to it, compared with the other nodes.
    """

    name: str
    settings: Settings = field(repr=False)
    weight: int = 1


def nodes(settings: Settings) -> tuple[NodeSettings, ...]:
    """All nodes, the one of the settings first.

    Raises:
        InvalidInput: the file is damaged, or two nodes would share a port, a name or a folder.
    """
    if settings.nodes is None:
        return (NodeSettings("node1", settings),)
    first, *rest = _read(settings.nodes).nodes
    if first.var or first.ports:
        raise _wrong(settings.nodes, f"{first.name} is the node of the settings", "set its ports with SERVE_*")
    found = [NodeSettings(first.name, settings, first.weight)]
    for row in rest:
        found.append(NodeSettings(row.name, _settings(settings, row), row.weight))
    _refuse_shared(settings.nodes, found)
    return tuple(found)


def others(settings: Settings) -> tuple[NodeSettings, ...]:
    """All nodes but the first."""
    return nodes(settings)[1:]


def environment(settings: Settings, further: bool = True) -> dict[str, str]:
    """The environment variables of ports and folders.

    Args:
        further: it is not the first node of a list.
    """
    ports = {name: str(settings.ports[key]) for name, key, _ in ROWS if key in settings.ports}
    nodes_file = NO_NODES if further or settings.nodes is None else str(settings.nodes)
    places = {"SERVE_VAR": str(settings.var), "SERVE_STORE": str(settings.store)}
    places["SERVE_FOLLOWS"] = str(settings.follows or "")
    return {**ports, **places, "SERVE_WEB_PORT": "0", "SERVE_FRONT": "off", "SERVE_NODES": nodes_file}


def _read(path: Path) -> _File:
    try:
        return _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise _wrong(path, f"it cannot be read: {error.strerror}", "name another file with SERVE_NODES") from error
    except yaml.YAMLError as error:
        raise _wrong(path, " ".join(str(error).split()), "correct it as config/nodes.yaml shows") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _wrong(path, f"{where}: {first['msg']}", "correct it as config/nodes.yaml shows") from error


def _settings(settings: Settings, row: _Row) -> Settings:
    if set(row.ports) != set(PORTS) or not row.var:
        missing = ", ".join(sorted({"var", *PORTS} - {*row.ports, *(["var"] if row.var else [])}))
        unknown = ", ".join(sorted(set(row.ports) - set(PORTS)))
        why = f"{row.name} has no {missing}" if missing else f"{row.name} has unknown ports: {unknown}"
        raise _wrong(Path(str(settings.nodes)), why, f"a node has var and the ports {', '.join(PORTS)}")
    ports = {**settings.ports, **{PORTS[name]: port for name, port in row.ports.items()}}
    var = (ROOT / row.var).resolve()
    return replace(settings, ports=ports, var=var, web_port=0, front=FrontSettings(), nodes=None, follows=settings.var)


def _refuse_shared(path: Path, found: list[NodeSettings]) -> None:
    used: dict[object, str] = {}
    for node in found:
        values: list[object] = [node.settings.var, f"name {node.name}"]
        values += [f"port {node.settings.ports[key]}" for key in PORTS.values()]
        for value in values:
            if value in used:
                raise _wrong(path, f"{used[value]} and {node.name} share {value}", "give each its own")
            used[value] = node.name


def _wrong(path: Path, why: str, fix: str) -> InvalidInput:
    return InvalidInput(f"{path}: {why}", fix)
