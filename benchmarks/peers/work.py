"""Classify one photo as every peer does, in two forms, so that only the servers around it differ.

`document`: the ResNet-18 of the classroom document in fp32, with its preprocessing (Pillow, torchvision's
`Resize((700, 500))`, mean and std), run by eager torch or ONNX Runtime with their default threads.
`ours`: our bundle, our decoder and our engine.
Environment variables select the form (`BENCH_FORM`) and the models (`BENCH_MODELS`, `BENCH_BUNDLE`).
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
FILES = ("document.pth", "document.onnx", "document.pt")
SIZE = (700, 500)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as in the classroom document

Classify = Callable[[str], dict[str, float]]
"""A photo in base64 -> the probability of each label. Several threads may call it."""


def load(runtime: str = "torch") -> Classify:
    """Load the model that the environment variables name.

    Args:
        runtime: `torch` (eager) or `onnxruntime`, for the classroom document's model; our bundle names its runtime.
    """
    if os.environ[FORM] == OURS:
        return _ours(Path(os.environ[BUNDLE]))
    return {"torch": _torch, "onnxruntime": _onnxruntime}[runtime](Path(os.environ[MODELS]))


def answer(classify: Classify, request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request of the classroom document; `detail` adds the probabilities."""
    scores = classify(request["image_base64"])
    content: dict[str, Any] = {"image_id": request["image_id"], "result": max(scores, key=lambda label: scores[label])}
    return content | {"probabilities": scores} if request.get("detail") else content


def transform() -> Callable[[Any], Any]:
    """The preprocessing of the classroom document: an RGB picture -> float tensor, shape (3, 700, 500)."""
    from torchvision import transforms

    return transforms.Compose([transforms.Resize(SIZE), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])  # type: ignore[no-any-return]


def write_models(folder: Path) -> None:
    """Write a ResNet-18 with random weights as state dict, ONNX (float input, batch 1) and TorchScript, if missing.

    Weights do not change the speed.
    """
    if all((folder / name).is_file() for name in FILES):
        return
    import torch
    from torchvision.models import resnet18

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(resnet18(num_classes=len(LABELS)).state_dict(), folder / FILES[0])
    model, photo = eager(folder), torch.zeros(1, 3, *SIZE)
    torch.onnx.export(model, (photo,), str(folder / FILES[1]), dynamo=False, opset_version=17)
    torch.jit.trace(model, photo).save(str(folder / FILES[2]))  # written last: its presence means that all are there


def eager(models: Path) -> Any:
    """The classroom document's model in torch, ready for inference."""
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
    from handler.encodings import decode_base64
    from handler.image import preprocess
    from handler.spec import read_spec

    torch.set_num_threads(1)  # as our handler does
    spec, lock = read_spec(bundle / "recipe.json"), threading.Lock()
    infer = engine.load(bundle / "model.onnx", spec)

    def classify(encoded: str) -> dict[str, float]:
        pixels = preprocess(decode_base64(encoded, spec.limits), spec.input, spec.limits)
        with lock:  # the engine has one infer request; other threads decode meanwhile
            scores = infer(pixels)
        return dict(zip(spec.labels, map(float, scores), strict=True))

    return classify


def _named(scores: list[float]) -> dict[str, float]:
    return dict(zip(LABELS, scores, strict=True))
