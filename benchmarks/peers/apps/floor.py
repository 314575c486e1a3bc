"""The bare script: one photo in one process without a server; JSON, base64, decode, resize, inference, JSON.

    python -m benchmarks.peers.apps.floor KIND REQUEST.json SECONDS

KIND names decoder and runtime: pillow-openvino, pillow-onnxruntime or opencv-openvino. The script has no checks,
ignores EXIF, and expects one kind of photo. Prints one JSON line: the latency of each photo in ms, and the last answer.
"""

import binascii
import json
import os
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peers.work import BUNDLE, FORM, LABELS, MEAN, MODELS, OURS, SIZE, STD

Array = npt.NDArray[Any]
KINDS = ("pillow-openvino", "pillow-onnxruntime", "opencv-openvino")
WARM = 10


def main() -> None:
    """Answer the same request for SECONDS."""
    kind, path, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    decoder, _, runtime = kind.partition("-")
    once = script(DECODERS[decoder], RUNTIMES[runtime])
    request = path.read_bytes()
    answers = [once(request) for _ in range(WARM)]
    spent: list[float] = []
    deadline = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < deadline:
        answers[-1] = once(request)
        spent.append(round((time.perf_counter() - begun) * 1000, 3))
    print(json.dumps({"ms": spent, "answer": json.loads(answers[-1])}))


def script(decode: Callable[[bytes, int, int], Array], load: Callable[[Path, tuple[int, ...], int, str], Any]) -> Any:
    """Answer a request: its bytes in, the answer's bytes out."""
    ours = os.environ[FORM] == OURS
    if ours:
        bundle = Path(os.environ[BUNDLE])
        recipe = json.loads((bundle / "recipe.json").read_text())
        labels, (height, width) = recipe["labels"], (recipe["input"]["height"], recipe["input"]["width"])
        runtime = recipe["runtime"]
        infer = load(bundle / "model.onnx", (1, 3, height, width), runtime["threads"], runtime["precision"])
    else:
        labels, (height, width) = LABELS, SIZE
        infer = load(Path(os.environ[MODELS]) / "document.onnx", (1, 3, height, width), os.cpu_count() or 1, "f32")
    scale = (1 / (255 * np.array(STD, np.float32)))[:, None, None]
    shift = (-np.array(MEAN, np.float32) / np.array(STD, np.float32))[:, None, None]

    def once(request: bytes) -> bytes:
        content = json.loads(request)
        pixels = decode(binascii.a2b_base64(content["image_base64"]), height, width).transpose(2, 0, 1)
        batch = np.ascontiguousarray(pixels if ours else pixels * scale + shift)[None]
        label = labels[int(np.argmax(infer(batch)))]
        return json.dumps({"image_id": content["image_id"], "result": label}).encode()

    return once


def _pillow(data: bytes, height: int, width: int) -> Array:
    from PIL import Image

    photo = Image.open(BytesIO(data))
    photo.draft("RGB", (width, height))  # scaled JPEG decoding, to at least the size of the input
    return np.asarray(photo.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))


def _opencv(data: bytes, height: int, width: int) -> Array:
    import cv2

    photo = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    return np.asarray(cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA))


def _openvino(graph: Path, shape: tuple[int, ...], threads: int, precision: str) -> Callable[[Array], Array]:
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": precision,
    }
    model = openvino.Core().read_model(graph)
    model.reshape(list(shape))
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda batch: np.asarray(request.infer({0: batch})[0])


def _onnxruntime(graph: Path, _: tuple[int, ...], threads: int, __: str) -> Callable[[Array], Array]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: np.asarray(session.run(None, {name: batch})[0])


DECODERS = {"pillow": _pillow, "opencv": _opencv}
RUNTIMES = {"openvino": _openvino, "onnxruntime": _onnxruntime}

if __name__ == "__main__":
    main()
