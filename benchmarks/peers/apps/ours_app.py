"""Our archive on the project's own TorchServe.

    python benchmarks/peers/apps/ours_app.py BUNDLE FOLDER

Packs the bundle, serves it, prints one JSON line (url, key, archive_mb) and stops on SIGTERM. It is run as a file and
with PYTHONPATH, so that the same lines also serve what an earlier commit shipped, by that commit's code.
"""

import json
import multiprocessing
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.harness.service import put_in_service
from deploy.archive import pack
from deploy.settings import own_environment, read_settings
from deploy.token import read_key
from deploy.torchserve.process import Server


def main() -> None:
    """Serve until told to stop."""
    bundle, folder = Path(sys.argv[1]), Path(sys.argv[2])
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    mar = next(iter(folder.glob("store/*.mar")), None) or packed(bundle, folder / "store")
    settings = read_settings(own_environment(folder / "var", mar.parent))
    with Server(settings) as server:
        put_in_service(server, mar)
        name = mar.stem.rpartition("-")[0]
        told = {
            "url": f"{settings.url('inference')}/predictions/{name}",
            "key": read_key(settings.var, "inference"),
            "archive_mb": round(mar.stat().st_size / 1e6, 2),
        }
        print(json.dumps(told), flush=True)
        ended.wait()


def packed(bundle: Path, store: Path) -> Path:
    """Pack in a process of its own: what packing loads is no part of what serving holds."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(pack, bundle, "1.0", store).result()


if __name__ == "__main__":
    main()
