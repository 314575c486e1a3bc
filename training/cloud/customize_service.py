"""The service that the cloud calls: a form with a photo in `images` -> {"predicted_label", "scores"}.

The platform builds the class below from this file, and for each request calls _preprocess, _inference and
_postprocess in turn. Photos are read by `handler/image.py`, the file that training and TorchServe use. A photo
that cannot be read gets the answer {"error": {"code", "message"}}, not an exception.
"""

from pathlib import Path
from typing import Any

import torch
from model import load
from model_service.pytorch_model_service import PTServingBaseService

from handler.errors import InvalidRequest, RequestError
from handler.image import Pixels, preprocess
from handler.spec import read_spec

FIELD = "images"


class ImageClassifier(PTServingBaseService):  # type: ignore[misc]
    """Classifies photos into the labels of `recipe.json`.

    Args:
        model_name, model_path: given by the platform; the files are in this one's folder.
    """

    def __init__(self, model_name: str, model_path: str) -> None:
        super().__init__(model_name, model_path)
        folder = Path(__file__).resolve().parent
        self.spec = read_spec(folder / "recipe.json")
        self.label = dict(enumerate(self.spec.labels))
        self.model = load(folder)

    def _preprocess(self, data: dict[str, Any]) -> Pixels | RequestError:
        """{"images": {file name: file}} -> uint8 (channels, H, W), or the error."""
        try:
            return preprocess(_photo(data), self.spec.input, self.spec.limits)
        except RequestError as error:
            return error

    @torch.no_grad()
    def _inference(self, data: Pixels | RequestError) -> list[float] | RequestError:
        """Pixels -> probabilities, in the order of the labels."""
        if isinstance(data, RequestError):
            return data
        place = next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))
        logits = self.model(torch.from_numpy(data)[None].to(place))
        return [float(p) for p in logits[0].float().softmax(0)]

    def _postprocess(self, data: list[float] | RequestError) -> dict[str, Any]:
        """Probabilities -> the likeliest label, and all labels with their scores, likeliest first."""
        if isinstance(data, RequestError):
            return {"error": data.as_json()}
        order = sorted(self.label, key=lambda index: -data[index])
        scores = [[self.label[index], round(data[index], 6)] for index in order]
        return {"predicted_label": self.label[order[0]], "scores": scores}


def _photo(data: dict[str, Any]) -> bytes:
    """The bytes of the one file in the form field.

    Raises:
        RequestError: `missing_image` or `invalid_request`.
    """
    files = data.get(FIELD)
    if not isinstance(files, dict) or not files:
        raise InvalidRequest("missing_image", f"send a photo as a file in the form field {FIELD}")
    if len(files) > 1:
        raise InvalidRequest("invalid_request", f"send one photo in {FIELD}, not {len(files)}")
    (file,) = files.values()
    content: bytes = file if isinstance(file, bytes) else file.read()
    return content
