"""Settings of the feedback service: documented, and a wrong value is named."""

from pathlib import Path

import pytest

from common.errors import UserError
from deploy.host.var import claim
from deploy.settings import ROOT
from feedback.settings import ROWS, read_settings
from feedback.user import user


@pytest.mark.parametrize("name", [name for name, _, _ in ROWS])
def test_every_setting_is_documented(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "feedback.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "value"), [("SERVE_WEB_PORT", "x"), ("FEEDBACK_KEEP_DAYS", "0"), ("FEEDBACK_ANONYMOUS", "maybe")]
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(UserError, match=name):
        read_settings({name: value})


def test_the_server_starts_in_a_folder_where_a_token_was_made_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVE_VAR", str(tmp_path / "var"))
    user.main(["token", "reports", "--scope", "reports"], standalone_mode=False)
    assert [path.name for path in (tmp_path / "var").iterdir()] == ["feedback"]
    claim(tmp_path / "var")
    assert (tmp_path / "var" / "feedback" / "feedback.db").is_file()
