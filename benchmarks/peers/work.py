"""What a peer does with one photo, in two forms; the servers around it differ and nothing else.

`document`: the document's ResNet-18 in fp32, with its preprocessing (Pillow, torchvision's `Resize((700, 500))`, mean
and std), run by eager torch or ONNX Runtime with their default threads. `ours`: our bundle, by our decoder and engine.
The environment says which (`BENCH_FORM`) and where the models lie (`BENCH_MODELS`, `BENCH_BUNDLE`).
"""

import base64
import os
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

FORM, MODELS, BUNDLE = "BENCH_FORM", "BENCH_MODELS", "BENCH_BUNDLE"
DOCUMENT, OURS = "document", "ours"
LABELS = ("offline", "online")
SIZE = (700, 500)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as in the document

Classify = Callable[[str], dict[str, float]]
"""A photo's base64 -> probability of each label. May be called by several threads."""


def load(runtime: str = "torch") -> Classify:
    """Load the model that the environment names.

    Args:
        runtime: of the document's model, `torch` (eager) or `onnxruntime`; our bundle names its own.
    """
    if os.environ[FORM] == OURS:
        return _ours(Path(os.environ[BUNDLE]))
    return {"torch": _torch, "onnxruntime": _onnxruntime}[runtime](Path(os.environ[MODELS]))


def answer(classify: Classify, asked: dict[str, Any]) -> dict[str, Any]:
    """The document's request -> its answer, with the probabilities where `detail` is asked."""
    scores = classify(asked["image_base64"])
    told: dict[str, Any] = {"image_id": asked["image_id"], "result": max(scores, key=lambda label: scores[label])}
    return told | {"probabilities": scores} if asked.get("detail") else told


def transform() -> Callable[[Any], Any]:
    """The document's preprocessing: an RGB picture -> float tensor, shape (3, 700, 500)."""
    from torchvision import transforms

    return transforms.Compose([transforms.Resize(SIZE), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])  # type: ignore[no-any-return]


def eager(models: Path) -> Any:
    """The document's model in torch, ready for inference."""
    import torch
    from torchvision.models import resnet18

    model = resnet18(num_classes=len(LABELS))
    model.load_state_dict(torch.load(models / "document.pth", map_location="cpu"))
    return model.eval()


def _torch(models: Path) -> Classify:
    import torch
    from PIL import Image

    model, prepare = eager(models), transform()

    def classify(encoded: str) -> dict[str, float]:
        photo = Image.open(BytesIO(base64.b64decode(encoded))).convert("RGB")
        with torch.inference_mode():
            return _named(torch.softmax(model(prepare(photo).unsqueeze(0))[0], 0).tolist())

    return classify


def _onnxruntime(models: Path) -> Classify:
    import onnxruntime
    from PIL import Image

    from handler.engine import softmax

    session, prepare = onnxruntime.InferenceSession(str(models / "document.onnx")), transform()
    name = session.get_inputs()[0].name

    def classify(encoded: str) -> dict[str, float]:
        photo = Image.open(BytesIO(base64.b64decode(encoded))).convert("RGB")
        return _named(softmax(session.run(None, {name: prepare(photo).unsqueeze(0).numpy()})[0][0]).tolist())

    return classify


def _ours(bundle: Path) -> Classify:
    import torch

    from handler import engine
    from handler.image import preprocess
    from handler.request import decode_base64
    from handler.spec import read_spec

    torch.set_num_threads(1)  # as our handler does
    spec, one = read_spec(bundle / "recipe.json"), threading.Lock()
    infer = engine.load(bundle / "model.onnx", spec)

    def classify(encoded: str) -> dict[str, float]:
        pixels = preprocess(decode_base64(encoded, spec.limits), spec.input, spec.limits)
        with one:  # an engine has one infer request; decoding goes on beside it
            scores = infer(pixels)
        return dict(zip(spec.labels, map(float, scores), strict=True))

    return classify


def _named(scores: list[float]) -> dict[str, float]:
    return dict(zip(LABELS, scores, strict=True))
