"""Score parts on a Ray cluster: the workers of `reports.scoring.workers`, one in each actor, on one machine or many.

Each actor gets the archive and the addresses of a part's photos, and returns its rows; this process writes the parts.
So the other machines need neither the scores folder nor the manifest, only the photos (object storage, or a shared
folder) and the same Photoloop. Ray's ports run any code that they are sent, therefore a cluster that this command
starts is on loopback, without dashboard and usage reports.
"""

import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from common.errors import CheckFailed, InvalidInput, NotFound, Unreachable
from deploy.store.profile import cores
from reports.scoring.archives import unpacked
from reports.scoring.fetching import Limits, fetch
from reports.scoring.job import Job
from reports.scoring.worker import Result, Task
from reports.scoring.workers import Pool

LOCAL = "127.0.0.1"
SHORT = Path("/tmp")
"""Where a Ray that is started here has its files: the paths of its sockets may have 107 bytes, so not in TMPDIR."""

_ROOT = Path(__file__).parents[2]
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray reads it when it is imported; 0: all its servers are on loopback. Ray 2.60 ignores _node_ip_address=127.0.0.1."""
_MODE = "RAY_AUTH_MODE"
_STORE = 256 * 2**20  # bytes of shared memory; the rows of a part are about 1 MB
_TRIES = 3  # of a part whose actor died
_CONNECT_S = 5


class Scorer:
    """One worker on some machine of the cluster.

    Args:
        archive: the bytes of the archive.
        connections: threads that may fetch photos at the same time.
    """

    def __init__(self, archive: bytes, limits: Limits, connections: int) -> None:
        self._stack = ExitStack()
        folder = own_folder("scoring")
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / "archive.mar").write_bytes(archive)
        model = self._stack.enter_context(unpacked(folder / "archive.mar", folder / "archive"))
        pool = Pool(model.folder, model.name, model.version, 1, partial(fetch, limits=limits), connections)
        self._pool = self._stack.enter_context(pool)

    def score(self, sources: Sequence[str]) -> list[Result]:
        """Classify the photos of a part, in their order."""
        return list(self._pool.results(Task(source) for source in sources))

    def end(self) -> None:
        """End the worker and remove its files."""
        self._stack.close()


class Cluster:
    """Actors on a Ray cluster; a context manager that starts and ends them.

    Args:
        jobs: actors; None: one per core of the cluster.
        address: of a running cluster (`auto`, or HOST:PORT); None: start one on this machine, on loopback.

    Raises:
        NotFound: Ray is not installed.
        InvalidInput: the address is not valid.
        Unreachable: the cluster does not answer.
        CheckFailed: the archive does not start there.
    """

    def __init__(self, mar: Path, limits: Limits, connections: int, jobs: int | None, address: str | None) -> None:
        if find_spec("ray") is None:
            raise NotFound("Ray is not installed", "run .venv/bin/python -m pip install -r requirements/ray.txt")
        if address and address != "auto":
            _require_listening(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")  # a line a second while a cluster refuses the token
        if not address or address.startswith((LOCAL, "localhost")):  # a driver with another address finds no node there
            os.environ[_LOOPBACK] = "0"
        if not address and _MODE not in os.environ:  # otherwise Ray writes a token into ~/.ray, for every later cluster
            os.environ |= {_MODE: "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._mar, self._limits, self._connections, self._jobs = mar, limits, connections, jobs
        self._address = address
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        import ray

        with ExitStack() as stack:
            _start(stack, self._jobs, self._address)
            actor = ray.remote(num_cpus=1, max_restarts=_TRIES, max_task_retries=_TRIES)(Scorer)
            archive = ray.put(self._mar.read_bytes())
            count = self._jobs or int(ray.cluster_resources()["CPU"])
            self._scorers: list[Any] = [actor.remote(archive, self._limits, self._connections) for _ in range(count)]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        try:
            ray.wait([one.end.remote() for one in self._scorers], num_returns=len(self._scorers), timeout=10)
        finally:
            self._stack.close()

    def results(self, job: Job, parts: Sequence[int]) -> Iterator[tuple[int, list[Result]]]:
        """Classify parts; each with its rows, in the order in which they are ready.

        Raises:
            Unreachable: a part failed three times, or the cluster is gone.
            CheckFailed: the archive does not start there.
        """
        import ray

        waiting, idle, running = iter(parts), list(self._scorers), {}
        try:
            while True:
                for part in waiting:
                    one = idle.pop()
                    running[one.score.remote(job.rows(part)["source"].to_pylist())] = part, one
                    if not idle:
                        break
                if not running:
                    return
                for done in ray.wait(list(running))[0]:
                    part, one = running.pop(done)
                    yield part, ray.get(done)
                    idle.append(one)
        except ray.exceptions.RayError as error:
            raise _failed(error) from error


def _require_listening(address: str) -> None:
    """Check that something listens at HOST:PORT: Ray itself tries for a minute, and prints its log.

    Raises:
        InvalidInput, Unreachable: it is not an address, or nothing listens there.
    """
    try:
        parts = urlsplit(f"//{address.removeprefix('ray://')}")
        place = parts.hostname or "", parts.port or 0
    except ValueError:
        place = "", 0
    if not all(place):
        raise InvalidInput(f"--ray-address {address} is not an address", "write HOST:PORT, or auto")
    try:
        socket.create_connection(place, _CONNECT_S).close()
    except OSError as error:
        reason = error.strerror or f"no answer within {_CONNECT_S} s"
        fix = "correct --ray-address, or start a cluster with ray start"
        raise Unreachable(f"no Ray cluster answers at {address}: {reason}", fix) from error


def _failed(error: Exception) -> Exception:
    text = " ".join(str(error).split())
    if "CheckFailed" in text:
        return CheckFailed("the archive does not start on a machine of the cluster", "see the logs of Ray there")
    return Unreachable(f"the Ray cluster failed: {text[-300:]}", "run the same command again; it continues")


def _start(stack: ExitStack, jobs: int | None, address: str | None) -> None:
    """Connect to a cluster, or start one; the stack ends it."""
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address:
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.AuthenticationError) as error:
            fix = "start one with ray start, and set RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN here, too"
            problem = f"no Ray cluster at {address} accepts this command ({' '.join(str(error).split())[:200]})"
            raise Unreachable(problem, fix) from error
        stack.callback(ray.shutdown)
        return
    folder = own_folder("ray", SHORT)
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    stack.callback(ray.shutdown)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    ray.init(
        num_cpus=jobs or cores(), include_dashboard=False, object_store_memory=_STORE, _temp_dir=str(folder), **quiet
    )  # fmt: skip
    if ray.util.get_node_ip_address() != LOCAL:  # ray was imported before
        raise Unreachable("Ray would listen on the network", "set RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0")


def own_folder(kind: str, base: Path | None = None) -> Path:
    """A new folder of this process for temporary files; those of processes that are gone are removed."""
    base = base or Path(tempfile.gettempdir())
    for folder in base.glob(f"photoloop-{kind}-*"):
        owner = folder.name.rpartition("-")[2]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(folder, ignore_errors=True)
    own = base / f"photoloop-{kind}-{os.getpid()}"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(mode=0o700)
    return own
