"""CPU, memory and GPU use of a long step: samples while it runs, and a summary at the end."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import torch

MEGABYTE = 2**20


class Resources:
    """Samples this process while the `with` block runs; each sample is written to a file and reported.

    A sample: `seconds` since the start; `cpu_percent`, 100 for each core that this process kept busy;
    `memory_mb`, its resident set; `machine_memory_percent`; where there is a GPU `gpu_memory_mb`, of all processes.

    Args:
        path: JSON lines; replaced if it exists.
        every: seconds between two samples.
        tell: called with each sample as a line of text.
    """

    def __init__(self, path: Path, every: float, tell: Callable[[str], None]) -> None:
        self.path, self.every, self.tell = path, every, tell
        self.process = psutil.Process()
        self.samples: list[dict[str, float]] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, name="resources", daemon=True)

    def __enter__(self) -> "Resources":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("", encoding="utf-8")
        self.started = time.monotonic()
        self.process.cpu_percent()  # the first call returns 0 and starts the interval
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self.thread.join()
        self._take()

    def summary(self) -> dict[str, Any]:
        """Seconds, samples, cores, and the mean and the maximum (`highest`) of each measure."""
        rows = self.samples
        names = [name for name in rows[0] if name != "seconds"] if rows else []
        return {
            "seconds": rows[-1]["seconds"] if rows else 0.0,
            "samples": len(rows),
            "cores": psutil.cpu_count(),
            **{
                name: {
                    "mean": round(sum(row[name] for row in rows) / len(rows), 1),
                    "highest": max(row[name] for row in rows),
                }
                for name in names
            },
        }

    def _run(self) -> None:
        while not self.ended.wait(self.every):
            self._take()

    def _take(self) -> None:
        row = {
            "seconds": round(time.monotonic() - self.started, 1),
            "cpu_percent": round(self.process.cpu_percent(), 1),
            "memory_mb": round(self.process.memory_info().rss / MEGABYTE, 1),
            "machine_memory_percent": psutil.virtual_memory().percent,
            **_gpu(),
        }
        self.samples.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.tell(in_words(row))


def in_words(row: dict[str, float]) -> str:
    """A sample in words."""
    gpu = f", GPU memory {row['gpu_memory_mb']:.0f} MB" if "gpu_memory_mb" in row else ""
    return f"CPU {row['cpu_percent']:.0f} %, memory {row['memory_mb']:.0f} MB{gpu}"


def _gpu() -> dict[str, float]:
    if not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info()
    return {"gpu_memory_mb": round((total - free) / MEGABYTE, 1)}
