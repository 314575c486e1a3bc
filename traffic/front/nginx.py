"""nginx's process: check a configuration, start, adopt, reload, stop."""

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

import psutil

from common.errors import InvalidInput, NotFound, UserError
from common.files import write_whole
from deploy.host.processes import alive, cmdline, wait_until_gone
from deploy.supervision import front
from traffic.front.folder import folder, sockets
from traffic.front.listening import Listening

LOGS = ("front.log", "front_error.log")
LOG_BYTES, LOG_FILES = 20_000_000, 5
QUIT_S, KILL_S = 10.0, 3.0


class Nginx:
    """The nginx of one `var`."""

    def __init__(self, var: Path) -> None:
        self.var, self.folder, self.sockets = var, folder(var), sockets(var)
        self.conf = self.folder / "nginx.conf"
        self.logs = var / "logs"
        self._child: subprocess.Popen[bytes] | None = None
        self._listening = Listening()

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            InvalidInput: the folder of the sockets belongs to another user.
        """
        for path in (self.folder, self.logs, self.sockets):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self.sockets.lstat()
        if status.st_uid != os.getuid() or self.sockets.is_symlink():
            raise InvalidInput(f"{self.sockets} belongs to another user", "give a shorter path with SERVE_VAR=FOLDER")

    def write(self, text: str) -> bool:
        """Write the configuration if it is a new one that nginx accepts; whether it was written.

        Raises:
            UserError: nginx does not accept it; the former one stays.
        """
        if self.conf.is_file() and self.conf.read_text(encoding="utf-8") == text:
            return False
        candidate = self.conf.with_suffix(".new")
        write_whole(candidate, text.encode())
        candidate.chmod(0o600)  # it has the tokens
        self.check(candidate)
        candidate.replace(self.conf)
        return True

    def check(self, conf: Path) -> None:
        """Run nginx -t. Raises: UserError: what nginx says."""
        done = subprocess.run(self._command("-t", "-q", conf=conf), capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"nginx does not accept {conf}: {done.stderr.strip()}")

    def master(self) -> psutil.Process | None:
        """The running master process; None if there is none."""
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            process = psutil.Process(int((self.folder / "nginx.pid").read_text()))
            if self._is_ours(process) and alive(process):
                return process
        return None

    def start(self) -> None:
        """Start nginx; returns at once.

        Raises:
            NotFound: nginx is not installed.
            OSError: a port is taken.
        """
        command, orphans = self._command(), self._orphans()
        if not self._listening.numbers:
            _finish(orphans)  # they have the ports
        self._listening.open(self.conf.read_text(encoding="utf-8"))
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd=self.folder,
            env={"PATH": os.defpath, **self._listening.environment},
            pass_fds=self._listening.numbers,
        )
        _finish(orphans)

    def running(self) -> bool:
        """Whether the master runs; one that has just been started counts before it has written its pid file."""
        if self._child is not None:
            if self._child.poll() is None:
                return True
            self._child = None
        return self.master() is not None

    def reload(self) -> None:
        """Read the configuration again; answers in progress are completed by the former workers."""
        self._signal(signal.SIGHUP)

    def rotate_logs(self) -> None:
        """Start new log files if one is long."""
        long = [name for name in LOGS if _size(self.logs / name) > LOG_BYTES]
        for name in long:
            for number in range(LOG_FILES - 1, -1, -1):
                path = self.logs / (f"{name}.{number}" if number else name)
                if path.exists():
                    path.replace(self.logs / f"{name}.{number + 1}")
        if long:
            self._signal(signal.SIGUSR1)

    def close(self) -> None:
        """Take no more connections; returns when those that have a request are answered, or after QUIT_S seconds.

        A worker that ends closes the nodes' sockets too, so a request that it is still reading could not go on. Workers
        that listen on those sockets, and on no port, take its place first.
        """
        master = self.master()
        self._listening.close()
        if master is None:
            return
        with contextlib.suppress(psutil.Error, OSError):
            workers = master.children()
            text = self.conf.read_text(encoding="utf-8")
            self.write(re.sub(r"(?<=listen )[\d.]+:(\d+)", rf"unix:{self.sockets}/closed-\1.sock", text))
            self.reload()
            wait_until_gone(workers, QUIT_S)

    def stop(self) -> None:
        """End nginx: after the answers in progress, or after QUIT_S seconds."""
        self.close()
        for number, seconds in ((signal.SIGQUIT, QUIT_S), (signal.SIGTERM, KILL_S), (signal.SIGKILL, KILL_S)):
            processes = self._processes()
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)
            if not wait_until_gone(processes, seconds):
                break
        if self._child is not None:
            self._child.poll()
            self._child = None

    def _orphans(self) -> list[psutil.Process]:
        """The workers of a master that was killed: they still take connections."""
        return [] if self.master() else [process for process in psutil.process_iter() if self._is_ours(process)]

    def _processes(self) -> list[psutil.Process]:
        """The master and its workers; the workers of a killed master too."""
        master = self.master() or (self._child and psutil.Process(self._child.pid))
        with contextlib.suppress(psutil.Error):
            if master:
                return [master, *master.children(recursive=True)]
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        """Whether it is an nginx that works in our folder: its title may be cut, and a worker's names no file."""
        if "nginx" not in " ".join(cmdline(process)[:1]):
            return False
        with contextlib.suppress(psutil.Error):
            return bool(process.cwd() == str(self.folder))
        return False

    def _signal(self, number: int) -> None:
        with contextlib.suppress(psutil.Error):
            master = self.master()
            if master:
                master.send_signal(number)

    def _command(self, *options: str, conf: Path | None = None) -> list[str]:
        path = front.nginx()
        if path is None:
            raise NotFound("nginx is not installed", "apt-get install nginx-light")
        return [path, "-p", str(self.folder), "-e", str(self.logs / LOGS[1]), "-c", str(conf or self.conf), *options]


def _finish(workers: list[psutil.Process]) -> None:
    """Have workers answer what they have, and take no more."""
    for process in workers:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGQUIT)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
