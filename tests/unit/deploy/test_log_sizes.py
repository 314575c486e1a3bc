"""No log grows without limit: every log has a maximum size and a maximum number of files."""

import configparser
import re
import xml.etree.ElementTree as ET
from pathlib import Path

from deploy.settings import PROPERTIES
from deploy.supervision import supervisor


def test_supervisord_and_its_programs_rotate_their_logs() -> None:
    conf = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    conf.read_string(supervisor.CONF.read_text())
    programs = [name for name in conf.sections() if name.startswith("program:")]
    assert programs == ["program:torchserve", "program:keeper"]
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
