"""No log grows for ever: each of our programs' and of TorchServe's has a size and a number of files."""

import configparser
import re
import xml.etree.ElementTree as ET
from pathlib import Path

from deploy.settings import PROPERTIES
from deploy.supervision import supervisor


def test_supervisord_and_its_programs_rotate_what_they_write() -> None:
    conf = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    conf.read_string(supervisor.CONF.read_text())
    programs = [name for name in conf.sections() if name.startswith("program:")]
    assert programs == ["program:torchserve", "program:keeper"]
    assert set(conf.sections()) == {"supervisord", *programs}
    for name in conf.sections():
        kind = "stdout_logfile" if name in programs else "logfile"
        assert re.fullmatch(r"[1-9]\d?MB", conf[name][f"{kind}_maxbytes"]), name
        assert 1 <= int(conf[name][f"{kind}_backups"]) <= 10, name
        assert conf[name].getboolean("redirect_stderr", False) == (name in programs)  # else a log of its own


def test_every_file_of_torchserve_has_a_size_and_a_number() -> None:
    root = ET.parse(PROPERTIES.with_name("log4j2.xml")).getroot()
    appenders = root.find("Appenders")
    assert appenders is not None
    files = [each for each in appenders if each.tag != "Console"]
    assert {each.tag for each in files} == {"RollingFile"}
    for each in files:
        policy, strategy = each.find("SizeBasedTriggeringPolicy"), each.find("DefaultRolloverStrategy")
        assert policy is not None and re.fullmatch(r"[1-9]\d? MB", policy.get("size", "")), each.get("name")
        assert strategy is not None and 1 <= int(strategy.get("max", 0)) <= 10, each.get("name")
        assert "%i" in each.get("filePattern", "")


def test_the_console_of_supervisord_is_begun_anew_when_it_has_become_long(tmp_path: Path) -> None:
    path = tmp_path / "logs" / supervisor.CONSOLE
    for size, kept in ((0, True), (1000, True), (supervisor.CONSOLE_BYTES + 1, False)):
        if size:
            with path.open("wb") as file:
                file.truncate(size)
        with supervisor.open_console(tmp_path / "logs") as console:
            console.write(b"said")
        assert path.stat().st_size == (size if kept else 0) + 4
    assert path.stat().st_mode & 0o777 == 0o600
