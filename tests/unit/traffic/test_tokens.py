"""The clients' tokens from a file that several fronts share (SERVE_FRONT_TOKENS)."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from common.errors import InvalidInput
from deploy.settings import Settings, read_settings, separate_environment
from traffic.front import tokens
from traffic.token import token

TOKEN = "0123456789ab" * 4


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "tokens.json").write_text(json.dumps({"data-team": TOKEN}))
    own = separate_environment(tmp_path / "var", tmp_path / "store")
    return {**own, "SERVE_FRONT_TOKENS": str(tmp_path / "tokens.json")}


@pytest.fixture
def settings(env: dict[str, str]) -> Settings:
    return read_settings(env)


def test_the_given_tokens_are_those_of_the_front(settings: Settings) -> None:
    assert tokens.of(settings) == {"data-team": TOKEN}
    assert not (settings.var / "front").exists()


@pytest.mark.parametrize(
    ("text", "why"), [("{}", "names no client"), ('{"a": "b"}', "is damaged"), ("[]", "is damaged")]
)
def test_a_file_without_a_valid_token_is_refused(settings: Settings, text: str, why: str) -> None:
    assert settings.front.tokens is not None
    settings.front.tokens.write_text(text)
    with pytest.raises(InvalidInput, match=why) as caught:
        tokens.of(settings)
    assert "openssl rand -hex 24" in caught.value.message


def test_the_command_prints_them_and_does_not_change_them(env: dict[str, str]) -> None:
    runner = CliRunner(env=env)
    assert runner.invoke(token, ["data-team"]).output.strip() == TOKEN
    refused = runner.invoke(token, ["other", "--add"])
    assert refused.exit_code == 1 and "SERVE_FRONT_TOKENS" in refused.stderr
    assert json.loads(Path(env["SERVE_FRONT_TOKENS"]).read_text()) == {"data-team": TOKEN}
