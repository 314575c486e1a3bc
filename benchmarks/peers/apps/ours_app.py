"""Our archive on a TorchServe.

    python -m benchmarks.peers.apps.ours_app BUNDLE FOLDER

Packs the bundle, serves it, prints one JSON line (url, key, archive_mb) and stops on SIGTERM.
"""

import json
import multiprocessing
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.harness.server import put_in_service
from deploy.archive import pack
from deploy.settings import read_settings, separate_environment
from deploy.torchserve.keys import read_key
from deploy.torchserve.process import Server


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    bundle, folder = Path(sys.argv[1]), Path(sys.argv[2])
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    mar = next(iter(folder.glob("store/*.mar")), None) or packed(bundle, folder / "store")
    settings = read_settings(separate_environment(folder / "var", mar.parent))
    with Server(settings) as server:
        put_in_service(server, mar)
        name = mar.stem.rpartition("-")[0]
        address = {
            "url": f"{settings.url('inference')}/predictions/{name}",
            "key": read_key(settings.var, "inference"),
            "archive_mb": round(mar.stat().st_size / 1e6, 2),
        }
        print(json.dumps(address), flush=True)
        ended.wait()


def packed(bundle: Path, store: Path) -> Path:
    """Pack in another process, whose memory is not counted as that of serving."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(pack, bundle, "1.0", store).result()


if __name__ == "__main__":
    main()
