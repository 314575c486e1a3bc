"""PyTriton as its documentation has it: a batched function, bound to Triton.

    python -m benchmarks.peers.apps.pytriton_app 8000

Triton speaks the V2 protocol, so the photo comes as a tensor of bytes and the answer goes back as one.
"""

import sys

import numpy as np
import numpy.typing as npt
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers import work

classify = work.load()


@batch
def predict(image_base64: npt.NDArray[np.bytes_]) -> dict[str, npt.NDArray[np.bytes_]]:
    """A batch of photos, shape (n, 1)."""
    scores = [classify(row[0].decode()) for row in image_base64]
    return {"result": np.array([[max(row, key=lambda label: row[label]).encode()] for row in scores])}


if __name__ == "__main__":
    port = int(sys.argv[1])
    config = TritonConfig(http_address="127.0.0.1", http_port=port, grpc_port=port + 1, metrics_port=port + 2)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="classroom",
            infer_func=predict,
            inputs=[Tensor(name="image_base64", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="result", dtype=bytes, shape=(1,))],
            config=ModelConfig(max_batch_size=8),
        )
        triton.serve()
