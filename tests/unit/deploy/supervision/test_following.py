"""A further node adopts the list of the first one. Files only: tests/e2e/test_traffic_nodes.py has the servers."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.host.locks import OwnerKind, deployment_lock
from deploy.settings import Settings, read_settings
from deploy.store import desired
from deploy.store.desired import ServedVersion
from deploy.supervision import following

OLD, NEW = (ServedVersion("shapes", version, f"shapes-{version}.mar", "d") for version in ("1.0", "1.1"))
OTHER = ServedVersion("rooms", "3.0", "rooms-3.0.mar", "d", default=True)
LISTED = [replace(NEW, default=True), OLD]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a further node; the first lists NEW as the default, and OLD."""
    for name in ("first", "second", "store"):
        (tmp_path / name).mkdir(mode=0o700)
    desired.write(tmp_path / "first", LISTED)
    places = {"SERVE_VAR": "second", "SERVE_FOLLOWS": "first", "SERVE_STORE": "store"}
    return read_settings({name: str(tmp_path / place) for name, place in places.items()})


@pytest.mark.parametrize("own", [[], [replace(OLD, default=True)], [replace(OLD, default=True), NEW]])
def test_what_the_first_lists_is_adopted(settings: Settings, own: list[ServedVersion]) -> None:
    desired.write(settings.var, own)
    assert following.behind(settings)
    following.adopt(settings)
    assert desired.read(settings.var) == LISTED and not following.behind(settings)


def test_a_damaged_list_is_replaced(settings: Settings) -> None:
    (settings.var / desired.FILE).write_text("{")
    following.adopt(settings)
    assert desired.read(settings.var) == LISTED


def test_a_version_of_its_own_is_not_the_default_and_a_model_of_its_own_stays(settings: Settings) -> None:
    surplus = replace(OLD, version="0.9", default=True)
    desired.write(settings.var, [surplus, OTHER])
    following.adopt(settings)
    assert desired.read(settings.var) == [LISTED[0], OTHER, OLD, replace(surplus, default=False)]
    assert following.behind(settings), "the surplus is still to be taken out"
    desired.write(settings.var, [LISTED[0], OTHER, OLD])
    assert not following.behind(settings)


@pytest.mark.parametrize("kind", [OwnerKind.ROLLOUT, OwnerKind.RETIRE, OwnerKind.UP])
def test_nothing_is_adopted_while_the_first_is_being_changed(settings: Settings, kind: OwnerKind) -> None:
    assert settings.follows
    with deployment_lock(settings.follows).hold(kind):
        assert not following.behind(settings)
        following.adopt(settings)
    assert desired.read(settings.var) == []
    with deployment_lock(settings.follows).hold(OwnerKind.REPAIR):
        assert following.behind(settings), "a repair changes no list"


@pytest.mark.parametrize("content", [None, "[]", "{"])
def test_a_first_node_without_a_list_is_not_followed(settings: Settings, content: str | None) -> None:
    assert settings.follows
    (settings.follows / desired.FILE).unlink()
    if content is not None:
        (settings.follows / desired.FILE).write_text(content)
    desired.write(settings.var, LISTED)
    assert not following.behind(settings)
    following.adopt(settings)
    assert desired.read(settings.var) == LISTED


def test_the_first_node_follows_nobody(settings: Settings) -> None:
    assert not following.behind(replace(settings, follows=None))
