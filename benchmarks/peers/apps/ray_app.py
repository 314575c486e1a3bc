"""Ray Serve as its documentation has it: a deployment that takes the HTTP request.

python -m benchmarks.peers.apps.ray_app 8000
"""

import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers import work


@serve.deployment
class Classifier:
    """One replica with one model."""

    def __init__(self) -> None:
        self.classify = work.load()

    async def __call__(self, request: Request) -> dict[str, Any]:
        return work.answer(self.classify, await request.json())


if __name__ == "__main__":
    ray.init(include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Classifier.bind(), route_prefix="/predict")  # type: ignore[attr-defined]
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
