"""The classes that change what TorchServe's front end does with forms and with gRPC."""

import zipfile
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest

from common.errors import UserError
from deploy.torchserve import front_end
from deploy.torchserve.front_end import CHANGES, change_classes


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_a_class_differs_only_in_the_listed_bytes(tmp_path: Path, name: str) -> None:
    change_classes(tmp_path)
    change_classes(tmp_path)
    changed = (tmp_path / name).read_bytes()
    package = find_spec("ts")
    assert package is not None
    assert package.origin is not None
    with zipfile.ZipFile(Path(package.origin).parent / "frontend" / "model-server.jar") as jar:
        original = jar.read(name)
    for before, after, count in CHANGES[name]:
        assert (len(before), changed.count(before), original.count(before)) == (len(after), 0, count)
        original = original.replace(before, after)
    assert changed == original


def test_another_front_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_end, "find_spec", lambda _: ModuleSpec("ts", None, origin=str(tmp_path / "__init__.py")))
    with pytest.raises(UserError, match="not the front end of TorchServe"):
        change_classes(tmp_path)
    (tmp_path / "frontend").mkdir()
    with zipfile.ZipFile(tmp_path / "frontend" / "model-server.jar", "w") as jar:
        for name in CHANGES:
            jar.writestr(name, b"another class")
    with pytest.raises(UserError, match="not the front end of TorchServe"):
        change_classes(tmp_path)
    assert not any((tmp_path / name).exists() for name in CHANGES)
