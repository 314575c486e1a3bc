"""The list of nodes: ports and folders, what is refused, and the environment of a further node."""

from pathlib import Path

import pytest

from common.errors import UserError
from deploy.host.nodes import environment, nodes, others
from deploy.settings import ROOT, read_settings

SECOND = (
    "{name: node2, var: var-node2, weight: 2, ports: "
    "{inference: 9080, management: 9081, metrics: 9082, grpc_inference: 9070, grpc_management: 9071, keeper: 9083}}"
)


def listed(folder: Path, *rows: str) -> Path:
    path = folder / "nodes.yaml"
    path.write_text(f"nodes: [{', '.join(rows)}]")
    return path


def test_by_default_there_is_one_node() -> None:
    settings = read_settings({})
    (only,) = nodes(settings)
    assert (only.name, only.settings, only.weight) == ("node1", settings, 1)
    assert others(read_settings({"SERVE_NODES": "none"})) == ()


def test_a_further_node_has_its_own_ports_and_folder_and_no_front(tmp_path: Path) -> None:
    settings = read_settings({"SERVE_NODES": str(listed(tmp_path, "{name: node1}", SECOND))})
    (second,) = others(settings)
    assert (second.name, second.weight, second.settings.var) == ("node2", 2, ROOT / "var-node2")
    assert second.settings.ports["inference_address"] == 9080 and second.settings.store == settings.store
    again = read_settings(environment(second.settings))
    assert (again.ports, again.var, again.store) == (second.settings.ports, second.settings.var, settings.store)
    assert (again.web_port, again.front.on, others(again)) == (0, False, ())


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (("{name: node1}", "{name: node2}"), "node2 has no grpc_inference, .*, var"),
        (("{name: node1}", SECOND.replace("9083", "8080")), "node1 and node2 share port 8080: give each its own"),
        (("{name: node2}", SECOND), "node2 and node2 share name node2"),
        (("{name: node1}", SECOND.replace("var-node2", "var")), "share .*/var"),
        (("{name: node1, var: x}",), "node1 is the node of the settings"),
        (("{name: 'a;b'}",), "nodes.0.name"),
        (("{name: node1, wieght: 2}",), "nodes.0.wieght"),
        ((), "nodes: List should have at least 1 item"),
    ],
)
def test_a_wrong_list_is_refused_and_the_message_names_it(tmp_path: Path, rows: tuple[str, ...], said: str) -> None:
    path = listed(tmp_path, *rows)
    with pytest.raises(UserError, match=f"nodes.yaml: .*{said}"):
        nodes(read_settings({"SERVE_NODES": str(path)}))
    path.write_text("nodes: [")
    with pytest.raises(UserError, match=r"nodes.yaml: .*correct it as config/nodes.yaml shows"):
        nodes(read_settings({"SERVE_NODES": str(path)}))
