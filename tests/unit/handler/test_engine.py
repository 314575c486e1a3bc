"""The engine on the shipped graph: one photo, several photos, thread counts, and missing devices."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from config.recipe import Backbone
from deploy.settings import ROOT
from handler import engine, goldens
from handler.image import Pixels, preprocess
from handler.spec import Input, Runtime, Spec, read_spec
from tests.helpers.commands import SHIPPED
from training.models.registry import build

CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
GRAPH = SHIPPED / "model.onnx"


@pytest.fixture(scope="module")
def spec() -> Spec:
    return read_spec(SHIPPED / "recipe.json")


@pytest.fixture(scope="module")
def photos(spec: Spec) -> list[Pixels]:
    rows = goldens.read(SHIPPED)[:2]
    return [preprocess((SHIPPED / golden.photo).read_bytes(), spec.input, spec.limits) for golden in rows]


def onnx(spec: Spec, **changes: object) -> Spec:
    return spec.model_copy(update={"runtime": Runtime.model_validate({"engine": "onnxruntime", **changes})})


def probabilities(run: engine.Engine, photos: list[Pixels]) -> list[engine.Probabilities]:
    return [answer.probabilities for answer in run.batch(photos)]


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_an_answer_is_not_overwritten_by_the_next(spec: Spec, photos: list[Pixels], runtime: str) -> None:
    """The output is read from the runtime's memory without a copy."""
    predict = engine.load(GRAPH, spec if runtime == "openvino" else onnx(spec))
    first = predict(photos[0])
    kept = first.copy()
    assert not np.array_equal(predict(photos[1]), kept)
    assert np.array_equal(first, kept)
    assert all(
        np.array_equal(a, b) for a, b in zip(probabilities(predict, photos), [first, predict(photos[1])], strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_parallel_photos_get_bit_identical_answers(spec: Spec, photos: list[Pixels], runtime: str) -> None:
    predict = engine.load(GRAPH, spec if runtime == "openvino" else onnx(spec), batches=True)
    many = [photos[index % 2] for index in (0, 1, 1, 0, 1, 0, 0)]
    assert predict.batch([]) == [] and np.array_equal(probabilities(predict, many[:1])[0], predict(many[0]))
    results = probabilities(predict, many)
    assert all(np.array_equal(result, predict(photo)) for result, photo in zip(results, many, strict=True))


def test_streams_run_at_the_same_time() -> None:
    both = threading.Barrier(2)

    def run(batch: Pixels) -> engine.Outputs:
        both.wait(10)  # breaks if one photo waits for the other
        return [np.array([[0, batch[0, 0, 0, 0]]], dtype=np.float32)]

    photos = [np.full((3, 2, 2), value, dtype=np.uint8) for value in range(4)]
    results = probabilities(engine.Engine(run, streams=[run, run]), photos)
    assert [result[1] for result in results] == pytest.approx(
        [1 / (1 + np.exp(-value)) for value in range(4)], rel=1e-5
    )


@pytest.mark.slow
def test_another_thread_count_gives_the_golden_answers(spec: Spec) -> None:
    predict = engine.load(GRAPH, spec, threads=1)
    assert goldens.check(SHIPPED, spec, engine.from_bytes(predict, spec)) <= spec.goldens.tolerance


def test_a_batch_is_one_call_on_a_gpu_and_one_call_per_photo_on_a_cpu() -> None:
    calls: list[int] = []

    def run(batch: Pixels) -> engine.Outputs:
        calls.append(len(batch))
        return [np.stack([np.array([0, photo[0, 0, 0]], dtype=np.float32) for photo in batch])]

    photos = [np.full((3, 2, 2), value, dtype=np.uint8) for value in (0, 1, 2)]
    together = probabilities(engine.Engine(run, together=True), photos)
    assert calls == [3]
    alone = probabilities(engine.Engine(run), photos)
    assert calls == [3, 1, 1, 1]
    assert np.array_equal(np.stack(together), np.stack(alone))
    assert engine.Engine(run, together=True).batch([]) == []


@pytest.mark.skipif(CUDA, reason="this onnxruntime has CUDA")
def test_missing_cuda_is_one_clear_error(spec: Spec) -> None:
    with pytest.raises(RuntimeError, match="CUDA is not available: install onnxruntime-gpu"):
        engine.load(GRAPH, onnx(spec, device="cuda"))


def test_auto_uses_the_cpu_without_a_gpu(spec: Spec, photos: list[Pixels]) -> None:
    assert engine.load(GRAPH, onnx(spec, device="auto"))(photos[0]).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.skipif(
    not CUDA, reason="this onnxruntime has no CUDA: pip install onnxruntime-gpu on a machine with a GPU"
)
def test_cuda_gives_the_goldens(spec: Spec) -> None:
    cuda = onnx(spec, device="cuda")
    predict = engine.load(GRAPH, cuda)
    assert goldens.check(SHIPPED, cuda, engine.from_bytes(predict, cuda)) <= spec.goldens.tolerance


@pytest.fixture(scope="module")
def float_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    torch.manual_seed(0)
    model = build(Backbone(name="efficientnet_lite0", weights="none"), 2).eval()
    photo = (torch.zeros(1, 3, 64, 64, dtype=torch.uint8),)
    names = {"input_names": ["input"], "dynamic_axes": {"input": {0: "batch"}}}
    torch.onnx.export(model, photo, str(path), dynamo=False, opset_version=17, **names)  # type: ignore[arg-type]
    return path


@pytest.mark.slow
def test_half_precision_keeps_input_and_output_types(float_graph: Path) -> None:
    """Runs on the CPU, which supports float16, if slowly."""
    half = engine._half(float_graph)
    assert len(half) < 0.6 * float_graph.stat().st_size
    photo = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    answers = []
    for source in (half, str(float_graph)):
        session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
        answers.append(session.run(None, {"input": photo})[0])
    assert answers[0].dtype == np.float32
    assert np.allclose(answers[0], answers[1], atol=0.02)


def test_an_int8_graph_is_not_converted_to_half_precision() -> None:
    with pytest.raises(ValueError, match=r"int8 graph cannot run in f16: set runtime.precision to f32"):
        engine._half(GRAPH)


@pytest.mark.skipif(
    not CUDA, reason="this onnxruntime has no CUDA: pip install onnxruntime-gpu on a machine with a GPU"
)
def test_cuda_answers_in_half_precision(float_graph: Path, spec: Spec) -> None:
    small = spec.model_copy(update={"input": Input(height=64, width=64)})
    photo = np.full((3, 64, 64), 90, dtype=np.uint8)
    answers = [
        engine.load(float_graph, onnx(small, device="cuda", precision=precision))(photo) for precision in ("f16", "f32")
    ]
    assert np.allclose(answers[0], answers[1], atol=0.02)


@pytest.mark.slow
def test_basehandler_is_imported_without_torchs_compiler() -> None:
    code = (
        "import sys, handler.service as s; from ts.torch_handler.base_handler import BaseHandler as B;"
        "assert issubclass(s.ClassifierService, B);"
        "sys.exit('openvino.torch' in sys.modules or 'torch._inductor.compile_fx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
