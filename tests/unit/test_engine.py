"""The engine on the shipped graph: one photo, several, other threads, and devices that are not there."""

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from deploy.settings import ROOT
from handler import engine, goldens
from handler.image import Pixels, preprocess
from handler.spec import Runtime, Spec, read_spec
from tests.conftest import SHIPPED

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
@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_cuda_gives_the_goldens(spec: Spec, precision: str) -> None:
    wanted = onnx(spec, device="cuda", precision=precision)
    ask = engine.load(GRAPH, wanted)
    assert goldens.check(SHIPPED, wanted, engine.from_bytes(ask, wanted)) <= spec.goldens.tolerance


def test_basehandler_comes_without_torchs_compiler() -> None:
    code = (
        "import sys, handler.service as s; from ts.torch_handler.base_handler import BaseHandler as B;"
        "assert issubclass(s.ClassifierService, B);"
        "sys.exit('openvino.torch' in sys.modules or 'torch._inductor.compile_fx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
