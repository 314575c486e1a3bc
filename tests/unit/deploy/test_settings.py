"""Settings: the environment overrides the file, and every setting is documented. Every log has a maximum size."""

import configparser
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from common.errors import UserError
from deploy.settings import PROPERTIES, ROOT, ROWS, read_properties, read_settings, resolved_properties
from deploy.supervision import supervisor


def test_defaults_are_loopback() -> None:
    settings = read_settings({})
    assert settings.url("inference") == "http://127.0.0.1:8080"
    assert settings.url("management") == "http://127.0.0.1:8081"
    assert settings.url("metrics") == "http://127.0.0.1:8082"
    assert settings.var == ROOT / "var"
    assert settings.store == ROOT / "model_store"


def test_the_environment_overrides_the_file_and_reaches_torchserve(tmp_path: Path) -> None:
    settings = read_settings({"SERVE_INFERENCE_PORT": "9000", "SERVE_STORE": str(tmp_path)})
    text = resolved_properties(settings)
    assert "inference_address=http://127.0.0.1:9000\n" in text
    assert f"model_store={tmp_path}\n" in text
    assert "decode_input_request=false\n" in text


def test_metrics_can_be_read_from_other_machines_and_nothing_else_can() -> None:
    text = resolved_properties(read_settings({"SERVE_METRICS_HOST": "0.0.0.0"}))
    assert re.findall(r"(\w+_address)=.*0\.0\.0\.0", text) == ["metrics_address"]
    with pytest.raises(UserError, match="SERVE_METRICS_HOST"):
        read_settings({"SERVE_METRICS_HOST": "10.0.0.5"})


@pytest.mark.parametrize("value", ["x", "0", "65536", "-1"])
def test_the_message_about_a_wrong_port_names_its_variable(value: str) -> None:
    with pytest.raises(UserError, match="SERVE_METRICS_PORT"):
        read_settings({"SERVE_METRICS_PORT": value})


def test_the_same_port_twice_is_refused() -> None:
    with pytest.raises(UserError, match="SERVE_METRICS_PORT are the same port"):
        read_settings({"SERVE_METRICS_PORT": "8080"})


def test_every_property_has_a_comment_that_says_why() -> None:
    """Every block of KEY=VALUE lines starts with a comment."""
    blocks = PROPERTIES.read_text().strip().split("\n\n")[1:]
    assert all(block.startswith("#") for block in blocks)


def test_the_properties_restrict_access() -> None:
    properties = read_properties(PROPERTIES)
    assert properties["disable_token_authorization"] == "false"
    assert properties["allowed_urls"] == "^$"
    assert int(properties["max_request_size"]) > 10 * 2**20 * 4 / 3
    for key, value in properties.items():
        if key.endswith("_address"):
            assert "127.0.0.1" in value


@pytest.mark.parametrize("name", [name for name, _, _ in ROWS])
def test_every_setting_is_in_the_readme(name: str) -> None:
    assert name in (ROOT / "docs" / "operate.md").read_text()


def test_deploy_imports_no_torch() -> None:
    modules = "deploy.__main__, config.recipe, handler.image, handler.request"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_supervisord_and_its_programs_rotate_their_logs() -> None:
    conf = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    conf.read_string(supervisor.CONF.read_text())
    programs = [name for name in conf.sections() if name.startswith("program:")]
    assert programs == ["program:torchserve", "program:keeper", "program:web", "program:front"]
    assert set(conf.sections()) == {"supervisord", *programs}
    for name in conf.sections():
        kind = "stdout_logfile" if name in programs else "logfile"
        assert re.fullmatch(r"[1-9]\d?MB", conf[name][f"{kind}_maxbytes"]), name
        assert 1 <= int(conf[name][f"{kind}_backups"]) <= 10, name
        assert conf[name].getboolean("redirect_stderr", False) == (
            name in programs
        )  # otherwise it would have a second log


def test_every_log_of_torchserve_is_rotated() -> None:
    root = ET.parse(PROPERTIES.with_name("log4j2.xml")).getroot()
    appenders = root.find("Appenders")
    assert appenders is not None
    files = [appender for appender in appenders if appender.tag != "Console"]
    assert {file.tag for file in files} == {"RollingFile"}
    for file in files:
        policy, strategy = file.find("SizeBasedTriggeringPolicy"), file.find("DefaultRolloverStrategy")
        assert policy is not None and re.fullmatch(r"[1-9]\d? MB", policy.get("size", "")), file.get("name")
        assert strategy is not None and 1 <= int(strategy.get("max", 0)) <= 10, file.get("name")
        assert "%i" in file.get("filePattern", "")


def test_a_long_console_log_of_supervisord_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "logs" / supervisor.CONSOLE
    for size, kept in ((0, True), (1000, True), (supervisor.CONSOLE_BYTES + 1, False)):
        if size:
            with path.open("wb") as log:
                log.truncate(size)
        with supervisor.open_console(tmp_path / "logs") as console:
            console.write(b"said")
        assert path.stat().st_size == (size if kept else 0) + 4
    assert path.stat().st_mode & 0o777 == 0o600
