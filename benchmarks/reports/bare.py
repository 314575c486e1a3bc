"""The bare loop that `reports score` is compared with: read, decode, classify, one process, nothing written.

PYTHONPATH=ARCHIVE python -P bare.py ARCHIVE FILE...    # prints the seconds of the loop, and those of computing
"""

import contextlib
import sys
import time
from pathlib import Path


def loop(folder: Path, photos: list[str]) -> None:
    """Classify photos one after the other with the code inside an unpacked archive."""
    from handler import engine
    from handler.errors import RequestError
    from handler.spec import read_spec

    spec = read_spec(folder / "recipe.json")
    run = engine.from_bytes(engine.load(folder / "model.onnx", spec, threads=1), spec)
    started, computed = time.perf_counter(), time.process_time()
    for photo in photos:
        with contextlib.suppress(RequestError):  # a few of the drawn photos are damaged
            run(Path(photo).read_bytes())
    print(time.perf_counter() - started, time.process_time() - computed)


if __name__ == "__main__":
    loop(Path(sys.argv[1]), Path(sys.argv[2]).read_text().splitlines())
