"""`model.onnx` -> a function from one photo to its probabilities.

On CPUs every photo is a call of its own: an answer never depends on its neighbours, and a batch of 8 in one call is
no faster than 8 times 1. One photo has all threads. Several have one each, side by side: 1.2 times as many a second
on two cores, and the same answers to the bit (docs/log.md). On a GPU a batch is one call. The precision comes from the
recipe, never from the machine; so does the thread count, unless `python -m deploy tune` measured a better one here.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from handler.image import Pixels, preprocess
from handler.spec import Runtime, Spec

Probabilities = npt.NDArray[np.float32]
Logits = npt.NDArray[np.float32]
Run = Callable[[Pixels], Logits]
"""uint8 (N, channels, H, W) -> (N, classes), which is the runtime's own memory until the next call."""

THREADS = "CLASSIFIER_THREADS"
"""Environment of a worker: NAME-VERSION=THREADS, from deploy/store/profile.py."""


class Engine:
    """uint8 (channels, H, W) -> float32 (classes,), summing to 1. Not to be shared between threads.

    Args:
        together: several photos are one call of `run`.
        streams: as `run`, on one thread each and at the same time.
    """

    def __init__(self, run: Run, together: bool = False, streams: Sequence[Run] = ()) -> None:
        self._run, self._together, self._streams = run, together, streams
        self._pool = ThreadPoolExecutor(len(streams)) if streams else None

    def __call__(self, photo: Pixels) -> Probabilities:
        return softmax(self._run(photo[None])[0])

    def each(self, photos: Sequence[Pixels]) -> list[Probabilities]:
        """Several photos, in order: in one call on a GPU, side by side where there are streams."""
        if self._together and len(photos) > 1:
            return [softmax(logits) for logits in self._run(np.stack(photos))]
        if self._pool is None or len(photos) < 2:
            return [self(photo) for photo in photos]
        answers: dict[int, Probabilities] = {}
        waiting = enumerate(photos)  # shared: who is ready takes the next

        def ask(run: Run) -> None:
            for index, photo in waiting:
                answers[index] = softmax(run(photo[None])[0])

        list(self._pool.map(ask, self._streams))
        return [answers[index] for index in range(len(photos))]


def load(graph: Path, spec: Spec, threads: int | None = None, batches: bool = False) -> Engine:
    """Compile the graph for this machine.

    Args:
        threads: instead of the recipe's.
        batches: several photos will be asked at once: compile it for that as well.

    Raises:
        RuntimeError: the runtime cannot read or compile the graph, or the recipe wants a GPU and there is none.
    """
    runtime = spec.runtime.model_copy(update={"threads": threads}) if threads else spec.runtime
    shape = (1, *spec.input.shape)
    try:
        return _LOADERS[runtime.engine](graph, shape, runtime, runtime.threads if batches else 1)
    except Exception as error:  # each runtime has exceptions of its own
        raise RuntimeError(f"{graph.name} cannot be loaded by {runtime.engine}: {error}") from error


def threads_here(name: str, version: str) -> int | None:
    """The thread count that was measured for a version on this machine; None: the recipe's."""
    wanted, _, count = os.environ.get(THREADS, "").rpartition("=")
    return int(count) if wanted == f"{name}-{version}" and count.isdigit() and int(count) else None


def from_bytes(engine: Engine, spec: Spec) -> Callable[[bytes], Probabilities]:
    """The whole way: a photo's bytes -> its probabilities.

    Raises (when called):
        RequestError: the photo is refused.
    """
    return lambda data: engine(preprocess(data, spec.input, spec.limits))


def softmax(logits: Logits) -> Probabilities:
    """Logits, shape (classes,) -> probabilities, same shape."""
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum(), dtype=np.float32)


def _openvino(graph: Path, shape: tuple[int, ...], runtime: Runtime, streams: int) -> Engine:
    import openvino

    core = openvino.Core()
    model = core.read_model(graph)
    model.reshape(list(shape))

    def compiled(streams: int) -> list[Run]:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": runtime.precision,
            "INFERENCE_NUM_THREADS": str(runtime.threads),
            "NUM_STREAMS": str(streams),
        }
        made = core.compile_model(model, "CPU", settings)
        return [run_of(made.create_infer_request()) for _ in range(streams)]

    def run_of(request: openvino.InferRequest) -> Run:
        def run(batch: Pixels) -> Logits:
            found: Logits = request.infer({0: batch}, share_inputs=True, share_outputs=True)[0]
            return found

        return run

    return Engine(compiled(1)[0], streams=compiled(streams) if streams > 1 else ())


def _onnxruntime(graph: Path, _: tuple[int, ...], runtime: Runtime, streams: int) -> Engine:
    import onnxruntime

    cuda = "CUDAExecutionProvider"
    gpu = runtime.device != "cpu" and cuda in onnxruntime.get_available_providers()
    source: Any = _half(graph) if gpu and runtime.precision == "f16" else str(graph)
    providers = [*([cuda] if gpu else []), "CPUExecutionProvider"]

    def compiled(threads: int) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(source, options, providers=providers)

    def run_of(session: Any) -> Run:
        name = session.get_inputs()[0].name
        return lambda batch: np.asarray(session.run(None, {name: batch})[0], dtype=np.float32)

    session = compiled(runtime.threads)
    gpu = cuda in session.get_providers()  # onnxruntime falls back by itself where the driver is missing
    if runtime.device == "cuda" and not gpu:
        raise RuntimeError("no CUDA here: install onnxruntime-gpu beside a GPU, or set runtime.device to cpu or auto")
    alone = [run_of(compiled(1))] * streams if streams > 1 and not gpu else ()  # threads may share a session
    return Engine(run_of(session), together=gpu, streams=alone)


def _half(graph: Path) -> bytes:
    """The graph with float16 inside; its uint8 input and float32 output stay.

    Raises:
        ValueError: it is an int8 graph, whose scales must be float32 below opset 19.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(graph)
    if any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        raise ValueError("it is an int8 graph: set runtime.precision to f32, or export the run in float for f16")
    made: bytes = convert_float_to_float16(model, keep_io_types=True).SerializeToString()
    return made


_LOADERS = {"openvino": _openvino, "onnxruntime": _onnxruntime}
