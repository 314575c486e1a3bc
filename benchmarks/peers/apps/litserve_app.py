"""LitServe as its documentation has it: setup, decode_request, predict, encode_response.

python -m benchmarks.peers.apps.litserve_app 8000
"""

import sys
from typing import Any

import litserve

from benchmarks.peers import work


class Classifier(litserve.LitAPI):
    """One worker process with one model."""

    def setup(self, device: str) -> None:
        self.classify = work.load()

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        return request

    def predict(self, request: dict[str, Any]) -> dict[str, Any]:
        return work.answer(self.classify, request)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Classifier(), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
