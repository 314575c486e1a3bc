"""Settings of the feedback service: documented, and a wrong value is named."""

import pytest

from common.errors import UserError
from deploy.settings import ROOT
from feedback.settings import ROWS, read_settings


@pytest.mark.parametrize("name", [name for name, _, _ in ROWS])
def test_every_setting_is_documented(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "feedback.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "value"), [("SERVE_WEB_PORT", "x"), ("FEEDBACK_KEEP_DAYS", "0"), ("FEEDBACK_ANONYMOUS", "maybe")]
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(UserError, match=name):
        read_settings({name: value})
