"""The class that keeps TorchServe's front end from reading forms."""

import zipfile
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest

from common.errors import UserError
from deploy.torchserve import front_end
from deploy.torchserve.front_end import CLASS, TYPES, pass_forms_on


def test_the_class_differs_only_in_two_constants(tmp_path: Path) -> None:
    pass_forms_on(tmp_path)
    pass_forms_on(tmp_path)
    changed = (tmp_path / CLASS).read_bytes()
    package = find_spec("ts")
    assert package is not None
    assert package.origin is not None
    with zipfile.ZipFile(Path(package.origin).parent / "frontend" / "model-server.jar") as jar:
        original = jar.read(CLASS)
    for kind in TYPES:
        assert kind not in changed
        original = original.replace(kind, b"\n" * len(kind))
    assert changed == original


def test_another_front_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_end, "find_spec", lambda _: ModuleSpec("ts", None, origin=str(tmp_path / "__init__.py")))
    with pytest.raises(UserError, match="not the front end of TorchServe"):
        pass_forms_on(tmp_path)
    (tmp_path / "frontend").mkdir()
    with zipfile.ZipFile(tmp_path / "frontend" / "model-server.jar", "w") as jar:
        jar.writestr(CLASS, b"another class")
    with pytest.raises(UserError, match="not the front end of TorchServe"):
        pass_forms_on(tmp_path)
    assert not (tmp_path / CLASS).exists()
