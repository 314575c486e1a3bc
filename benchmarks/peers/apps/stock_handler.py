"""A TorchServe handler as its documentation has it: on its BaseHandler, with the classroom document's request and size.

Written like TorchServe's image classifier, which cannot be the base, because it imports captum. Packed by
benchmarks/peers/apps/torchserve_app.py with a TorchScript of that document's model; TorchServe finds the one class
that this file defines. The archive holds nothing of the project, so labels and sizes are repeated here.
"""

import base64
from io import BytesIO
from typing import Any

import torch
from PIL import Image
from torchvision import transforms
from ts.torch_handler.base_handler import BaseHandler


class StockClassifier(BaseHandler):
    """Its `initialize` and `inference` are TorchServe's."""

    image_processing = transforms.Compose(
        [
            transforms.Resize((700, 500)),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    def preprocess(self, data: list[dict[str, Any]]) -> torch.Tensor:
        """Requests -> a float tensor, shape (n, 3, 700, 500)."""
        requests = [row["body"] for row in data]
        self.ids = [request["image_id"] for request in requests]
        photos = [Image.open(BytesIO(base64.b64decode(row["image_base64"]))).convert("RGB") for row in requests]
        return torch.stack([self.image_processing(photo) for photo in photos]).to(self.device)

    def postprocess(self, data: torch.Tensor) -> list[dict[str, Any]]:
        """Logits, shape (n, 2) -> answers."""
        labels = [self.mapping[str(index)] for index in data.argmax(1).tolist()]
        return [{"image_id": key, "result": label} for key, label in zip(self.ids, labels, strict=True)]
