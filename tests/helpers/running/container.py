"""Run scripts/container.sh as an engine runs the image, without an engine.

The program is process 1 of a PID namespace and belongs to another user; it has no HOME and few variables; everything
is read-only except /mnt, which stands for the image's /data, and an empty /tmp. The packages are those of this
environment.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from deploy.settings import ROOT
from tests.helpers.waiting import default_signals

DATA = Path("/mnt")
USER = 12345
SCRIPT = """
set -e
if [ -n "$5" ]; then  # an interpreter inside a folder that only its owner can enter
    mkdir -p "$1/python"
    mount --bind "$4" "$1/python"
    mount -t tmpfs -o mode=755 tmpfs "$5"
    mkdir -p "$4"
    mount --move "$1/python" "$4"
    mount -o remount,bind,ro "$4"
    mount -o remount,ro "$5"
fi
mount --bind "$1" /mnt
mount -o remount,bind,ro /
for place in "$2" "$3"; do mount --rbind "$place" "$place"; mount -o remount,bind,ro "$place"; done
mount -t tmpfs -o mode=1777 tmpfs /tmp
shift 5
exec "$@"
"""


def _closed(path: Path) -> Path | None:
    """The outermost folder above a path that only its owner can enter."""
    return next((folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001), None)


def _missing() -> str:
    if os.getuid():
        return "only root can make other users' processes"
    tools = [tool for tool in ("unshare", "setpriv", "mount") if shutil.which(tool) is None]
    if tools:
        return f"not installed: {', '.join(tools)}"
    if folder := _closed(ROOT) or _closed(Path(sys.prefix).resolve()):
        return f"only the owner of {folder} can enter it"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True, check=False
    )
    return tried.stderr.strip()


needs_namespaces = pytest.mark.skipif(bool(_missing()), reason=f"no namespaces here: {_missing()}")


class Container:
    """A running entry point.

    Attributes:
        data: the folder that it sees as /mnt.
        init: its process 1, as seen from outside.
    """

    def __init__(self, process: subprocess.Popen[bytes], data: Path, log: Path) -> None:
        self.process, self.data, self.log = process, data, log

    @property
    def init(self) -> psutil.Process:
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def printed(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def contained(data: Path, variables: Mapping[str, str], *words: str) -> Iterator[Container]:
    """Start the entry point with these words; whatever is left of it is killed in the end."""
    data.mkdir(parents=True, exist_ok=True)
    os.chown(data, USER, 0)
    log = data.with_suffix(".log")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}:/usr/sbin",
        "LANG": "C.UTF-8",
        "SERVE_VAR": f"{DATA}/var",
        "SERVE_NODES": "none",
        "SERVE_STORE": f"{DATA}/model_store",
        **variables,
    }
    command = [
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SCRIPT, "sh"),
        *(str(data), str(ROOT), str(Path(sys.prefix).resolve()), sys.base_prefix),
        str(_closed(Path(sys.base_prefix)) or ""),
        *("setpriv", f"--reuid={USER}", "--regid=0", "--clear-groups"),
        *("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"),
        *([tini, "--"] if (tini := shutil.which("tini")) else []),
        *(str(ROOT / "scripts" / "container.sh"), *words),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, preexec_fn=default_signals,
        )  # fmt: skip
    try:
        yield Container(process, data, log)
    finally:
        with contextlib.suppress(psutil.Error):  # the kernel ends everything in a namespace with its process 1
            for child in psutil.Process(process.pid).children():
                child.kill()
        process.kill()
        process.wait()
