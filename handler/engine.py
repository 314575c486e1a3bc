"""Run `model.onnx`: a function from one photo to its probabilities, and to the probability that it is in scope.

On a CPU each photo is a separate call: an answer then never depends on the rest of its batch, and one call with 8
photos is no faster than 8 calls. A single photo uses all threads. Several photos run in parallel with one thread each,
which answers 1.2 times as many photos per second on two cores, with bit-identical results (docs/log.md). On a GPU a
batch is one call. Precision and thread count come from the recipe, so they do not depend on the machine, except that
`python -m deploy tune` can measure and set a better thread count.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from handler.image import Pixels, preprocess
from handler.spec import Runtime, Spec

Probabilities = npt.NDArray[np.float32]
Logits = npt.NDArray[np.float32]
Outputs = Sequence[npt.NDArray[np.float32]]
"""Logits (N, classes); in a graph that was trained with photos of no class also in_scope (N, 1), 0 to 1."""
Run = Callable[[Pixels], Outputs]
"""uint8 (N, channels, H, W) -> outputs. They are memory of the runtime, valid until the next call."""

THREADS = "CLASSIFIER_THREADS"
"""Environment variable of a worker: NAME-VERSION=THREADS, from deploy/store/profile.py."""


class Answer(NamedTuple):
    """Probabilities, float32 (classes,), and the probability that the photo shows a class; None: the graph has none."""

    probabilities: Probabilities
    in_scope: float | None = None


class Engine:
    """uint8 (channels, H, W) -> float32 (classes,), summing to 1. Not thread-safe.

    Args:
        run: computes the outputs with all threads.
        together: `batch` passes all photos to one call of `run`.
        streams: functions like `run` with one thread each, which `batch` calls in parallel.
        has_scope: the graph says whether a photo is in scope.
    """

    def __init__(self, run: Run, together: bool = False, streams: Sequence[Run] = (), has_scope: bool = False) -> None:
        self._run, self._together, self._streams, self.has_scope = run, together, streams, has_scope
        self._pool = ThreadPoolExecutor(len(streams)) if streams else None

    def __call__(self, photo: Pixels) -> Probabilities:
        return self.answer(photo).probabilities

    def answer(self, photo: Pixels) -> Answer:
        """One photo -> its probabilities and whether it is in scope."""
        return _answers(self._run(photo[None]))[0]

    def batch(self, photos: Sequence[Pixels]) -> list[Answer]:
        """Several photos -> their answers in the same order; one call on a GPU, parallel calls with streams."""
        if self._together and len(photos) > 1:
            return _answers(self._run(np.stack(photos)))
        if self._pool is None or len(photos) < 2:
            return [self.answer(photo) for photo in photos]
        results: dict[int, Answer] = {}
        queue = enumerate(photos)  # shared: an idle stream takes the next photo

        def work(run: Run) -> None:
            for index, photo in queue:
                results[index] = _answers(run(photo[None]))[0]

        list(self._pool.map(work, self._streams))
        return [results[index] for index in range(len(photos))]


def load(graph: Path, spec: Spec, threads: int | None = None, batches: bool = False) -> Engine:
    """Compile the graph for this machine.

    Args:
        threads: overrides the recipe's thread count.
        batches: also prepare for `Engine.batch`.

    Raises:
        RuntimeError: the runtime cannot read or compile the graph, or the recipe requires a GPU and there is none.
    """
    runtime = spec.runtime.model_copy(update={"threads": threads}) if threads else spec.runtime
    shape = (1, *spec.input.shape)
    try:
        return _LOADERS[runtime.engine](graph, shape, runtime, runtime.threads if batches else 1)
    except Exception as error:  # every runtime raises its own exception types
        raise RuntimeError(f"{graph.name} cannot be loaded by {runtime.engine}: {error}") from error


def threads_here(name: str, version: str) -> int | None:
    """The thread count measured for a version on this machine; None: none was, so the recipe's applies."""
    tuned, _, count = os.environ.get(THREADS, "").rpartition("=")
    return int(count) if tuned == f"{name}-{version}" and count.isdigit() and int(count) else None


def from_bytes(engine: Engine, spec: Spec) -> Callable[[bytes], Answer]:
    """Preprocessing and engine as one function: the bytes of a photo's file -> its answer.

    The function raises RequestError for a photo that is refused.
    """
    return lambda data: engine.answer(preprocess(data, spec.input, spec.limits))


def softmax(logits: Logits) -> Probabilities:
    """Logits, shape (classes,) -> probabilities, same shape."""
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum(), dtype=np.float32)


def _answers(outputs: Outputs) -> list[Answer]:
    if len(outputs) == 1:
        return [Answer(softmax(logits)) for logits in outputs[0]]
    return [Answer(softmax(logits), float(p[0])) for logits, p in zip(*outputs, strict=True)]


def _openvino(graph: Path, shape: tuple[int, ...], runtime: Runtime, streams: int) -> Engine:
    import openvino

    core = openvino.Core()
    model = core.read_model(graph)
    model.reshape(list(shape))
    outputs = range(len(model.outputs))

    def compile_runs(streams: int) -> list[Run]:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": runtime.precision,
            "INFERENCE_NUM_THREADS": str(runtime.threads),
            "NUM_STREAMS": str(streams),
        }
        compiled = core.compile_model(model, "CPU", settings)
        return [as_run(compiled.create_infer_request()) for _ in range(streams)]

    def as_run(request: openvino.InferRequest) -> Run:
        def run(batch: Pixels) -> Outputs:
            results = request.infer({0: batch}, share_inputs=True, share_outputs=True)
            return [results[index] for index in outputs]

        return run

    parallel = compile_runs(streams) if streams > 1 else ()
    return Engine(compile_runs(1)[0], streams=parallel, has_scope=len(outputs) > 1)


def _onnxruntime(graph: Path, _: tuple[int, ...], runtime: Runtime, streams: int) -> Engine:
    import onnxruntime

    cuda = "CUDAExecutionProvider"
    gpu = runtime.device != "cpu" and cuda in onnxruntime.get_available_providers()
    source: Any = _half(graph) if gpu and runtime.precision == "f16" else str(graph)
    providers = [*([cuda] if gpu else []), "CPUExecutionProvider"]

    def open_session(threads: int) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(source, options, providers=providers)

    def as_run(session: Any) -> Run:
        name = session.get_inputs()[0].name
        return lambda batch: [np.asarray(value, dtype=np.float32) for value in session.run(None, {name: batch})]

    session = open_session(runtime.threads)
    gpu = cuda in session.get_providers()  # without a driver onnxruntime silently uses the CPU
    if runtime.device == "cuda" and not gpu:
        raise RuntimeError(
            "CUDA is not available: install onnxruntime-gpu on a machine with a GPU, "
            "or set runtime.device to cpu or auto"
        )
    parallel = [as_run(open_session(1))] * streams if streams > 1 and not gpu else ()  # a session is thread-safe
    return Engine(as_run(session), gpu, parallel, len(session.get_outputs()) > 1)


def _half(graph: Path) -> bytes:
    """The graph with float16 weights and arithmetic; input (uint8) and output (float32) are unchanged.

    Raises:
        ValueError: it is an int8 graph, whose scales must be float32 below opset 19.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(graph)
    if any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        raise ValueError(
            "an int8 graph cannot run in f16: set runtime.precision to f32, or export the run with export.int8 never"
        )
    converted: bytes = convert_float_to_float16(model, keep_io_types=True).SerializeToString()
    return converted


_LOADERS = {"openvino": _openvino, "onnxruntime": _onnxruntime}
