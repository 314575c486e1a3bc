"""`model.onnx` -> a function from one photo to its probabilities.

One photo at a time, also when TorchServe hands over a batch: an answer never
depends on its neighbours, and on CPUs a batch of 8 is no faster than 8 times 1.
The precision and the thread count come from the recipe, never from the machine.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from handler.image import Pixels, preprocess
from handler.spec import Runtime, Spec

Probabilities = npt.NDArray[np.float32]
Engine = Callable[[Pixels], Probabilities]
"""uint8 (3, H, W) -> float32 (classes,), summing to 1. Not to be shared between threads."""


def load(graph: Path, spec: Spec) -> Engine:
    """Compile the graph for this machine's CPU.

    Raises:
        RuntimeError: the runtime cannot read or compile the graph.
    """
    shape = (1, 3, spec.input.height, spec.input.width)
    try:
        run = _LOADERS[spec.runtime.engine](graph, shape, spec.runtime)
    except Exception as error:  # each runtime has exceptions of its own
        raise RuntimeError(f"{graph.name} cannot be loaded by {spec.runtime.engine}: {error}") from error

    def probabilities(photo: Pixels) -> Probabilities:
        return softmax(run(photo[None])[0])

    return probabilities


def from_bytes(engine: Engine, spec: Spec) -> Callable[[bytes], Probabilities]:
    """The whole way: a photo's bytes -> its probabilities.

    Raises (when called):
        RequestError: the photo is refused.
    """
    return lambda data: engine(preprocess(data, spec.input, spec.limits))


def softmax(logits: npt.NDArray[np.float32]) -> Probabilities:
    """Logits, shape (classes,) -> probabilities, same shape."""
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum(), dtype=np.float32)


def _openvino(graph: Path, shape: tuple[int, ...], runtime: Runtime) -> Callable[[Pixels], npt.NDArray[np.float32]]:
    import openvino

    core = openvino.Core()
    model = core.read_model(graph)
    model.reshape(list(shape))
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": runtime.precision,
        "INFERENCE_NUM_THREADS": str(runtime.threads),
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(batch: Pixels) -> npt.NDArray[np.float32]:
        return np.array(request.infer({0: batch})[0], dtype=np.float32)

    return run


def _onnxruntime(graph: Path, _: tuple[int, ...], runtime: Runtime) -> Callable[[Pixels], npt.NDArray[np.float32]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = runtime.threads
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(batch: Pixels) -> npt.NDArray[np.float32]:
        return np.asarray(session.run(None, {name: batch})[0])

    return run


_LOADERS = {"openvino": _openvino, "onnxruntime": _onnxruntime}
