"""The engine on the shipped graph: one photo, several, other threads, and devices that are not there."""

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
from tests.conftest import SHIPPED
from training.models.registry import build

CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
GRAPH = SHIPPED / "model.onnx"


@pytest.fixture(scope="module")
def spec() -> Spec:
    return read_spec(SHIPPED / "recipe.json")


@pytest.fixture(scope="module")
def photos(spec: Spec) -> list[Pixels]:
    found = goldens.read(SHIPPED)[:2]
    return [preprocess((SHIPPED / golden.photo).read_bytes(), spec.input, spec.limits) for golden in found]


def onnx(spec: Spec, **changes: object) -> Spec:
    return spec.model_copy(update={"runtime": Runtime.model_validate({"engine": "onnxruntime", **changes})})


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_an_answer_is_not_overwritten_by_the_next(spec: Spec, photos: list[Pixels], runtime: str) -> None:
    """The runtimes' own memory is read, not copied."""
    ask = engine.load(GRAPH, spec if runtime == "openvino" else onnx(spec))
    first = ask(photos[0])
    kept = first.copy()
    assert not np.array_equal(ask(photos[1]), kept)
    assert np.array_equal(first, kept)
    assert all(np.array_equal(a, b) for a, b in zip(ask.each(photos), [first, ask(photos[1])], strict=True))


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_side_by_side_every_photo_gets_its_own_answer_to_the_bit(
    spec: Spec, photos: list[Pixels], runtime: str
) -> None:
    ask = engine.load(GRAPH, spec if runtime == "openvino" else onnx(spec), batches=True)
    many = [photos[index % 2] for index in (0, 1, 1, 0, 1, 0, 0)]
    assert ask.each([]) == [] and np.array_equal(ask.each(many[:1])[0], ask(many[0]))
    assert all(np.array_equal(found, ask(photo)) for found, photo in zip(ask.each(many), many, strict=True))


def test_side_by_side_is_at_the_same_time() -> None:
    both = threading.Barrier(2)

    def run(batch: Pixels) -> engine.Logits:
        both.wait(10)  # broken, where one photo waits for the other
        return np.array([[0, batch[0, 0, 0, 0]]], dtype=np.float32)

    photos = [np.full((3, 2, 2), value, dtype=np.uint8) for value in range(4)]
    found = engine.Engine(run, streams=[run, run]).each(photos)
    assert [each[1] for each in found] == pytest.approx([1 / (1 + np.exp(-value)) for value in range(4)], rel=1e-5)


def test_other_threads_give_the_goldens(spec: Spec) -> None:
    ask = engine.load(GRAPH, spec, threads=1)
    assert goldens.check(SHIPPED, spec, engine.from_bytes(ask, spec)) <= spec.goldens.tolerance


def test_a_batch_is_one_call_on_a_gpu_and_one_a_photo_on_a_cpu() -> None:
    calls: list[int] = []

    def run(batch: Pixels) -> engine.Logits:
        calls.append(len(batch))
        return np.stack([np.array([0, photo[0, 0, 0]], dtype=np.float32) for photo in batch])

    photos = [np.full((3, 2, 2), value, dtype=np.uint8) for value in (0, 1, 2)]
    together = engine.Engine(run, together=True).each(photos)
    assert calls == [3]
    alone = engine.Engine(run).each(photos)
    assert calls == [3, 1, 1, 1]
    assert np.array_equal(np.stack(together), np.stack(alone))
    assert engine.Engine(run, together=True).each([]) == []


@pytest.mark.skipif(CUDA, reason="this onnxruntime has CUDA")
def test_cuda_that_is_wanted_and_absent_is_one_clear_error(spec: Spec) -> None:
    with pytest.raises(RuntimeError, match="no CUDA here: install onnxruntime-gpu"):
        engine.load(GRAPH, onnx(spec, device="cuda"))


def test_auto_takes_the_cpu_where_there_is_no_gpu(spec: Spec, photos: list[Pixels]) -> None:
    assert engine.load(GRAPH, onnx(spec, device="auto"))(photos[0]).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.skipif(not CUDA, reason="this onnxruntime has no CUDA: pip install onnxruntime-gpu beside a GPU")
def test_cuda_gives_the_goldens(spec: Spec) -> None:
    wanted = onnx(spec, device="cuda")
    ask = engine.load(GRAPH, wanted)
    assert goldens.check(SHIPPED, wanted, engine.from_bytes(ask, wanted)) <= spec.goldens.tolerance


@pytest.fixture(scope="module")
def float_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    torch.manual_seed(0)
    model = build(Backbone(name="efficientnet_lite0", weights="none"), 2).eval()
    photo = (torch.zeros(1, 3, 64, 64, dtype=torch.uint8),)
    names = {"input_names": ["input"], "dynamic_axes": {"input": {0: "batch"}}}
    torch.onnx.export(model, photo, str(path), dynamo=False, opset_version=17, **names)  # type: ignore[arg-type]
    return path


def test_half_precision_is_inside_the_graph_alone(float_graph: Path) -> None:
    """On the CPU, which computes float16 too, slowly."""
    half = engine._half(float_graph)
    assert len(half) < 0.6 * float_graph.stat().st_size
    photo = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    found = []
    for source in (half, str(float_graph)):
        session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
        found.append(session.run(None, {"input": photo})[0])
    assert found[0].dtype == np.float32
    assert np.allclose(found[0], found[1], atol=0.02)


def test_an_int8_graph_is_not_made_half_precision() -> None:
    with pytest.raises(ValueError, match=r"int8 graph: set runtime.precision to f32"):
        engine._half(GRAPH)


@pytest.mark.skipif(not CUDA, reason="this onnxruntime has no CUDA: pip install onnxruntime-gpu beside a GPU")
def test_cuda_answers_in_half_precision(float_graph: Path, spec: Spec) -> None:
    small = spec.model_copy(update={"input": Input(height=64, width=64)})
    photo = np.full((3, 64, 64), 90, dtype=np.uint8)
    answers = [
        engine.load(float_graph, onnx(small, device="cuda", precision=precision))(photo) for precision in ("f16", "f32")
    ]
    assert np.allclose(answers[0], answers[1], atol=0.02)


def test_basehandler_comes_without_torchs_compiler() -> None:
    code = (
        "import sys, handler.service as s; from ts.torch_handler.base_handler import BaseHandler as B;"
        "assert issubclass(s.ClassifierService, B);"
        "sys.exit('openvino.torch' in sys.modules or 'torch._inductor.compile_fx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
