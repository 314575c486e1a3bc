"""The document's model service: Flask under gunicorn, a photo's path in, the index of its label out.

    gunicorn -w 4 -b 127.0.0.1:5005 benchmarks.peers.apps.document_model:app

Rebuilt for measuring only: the project does not serve it, because a service that opens any path that it is sent is
a hole (docs/architecture.md).
"""

import os
from pathlib import Path
from typing import Any

import torch
from flask import Flask, request
from PIL import Image

from benchmarks.peers import work

app = Flask(__name__)
if "BENCH_TORCH_THREADS" in os.environ:  # the tuned chain; as it stands the document leaves them alone
    torch.set_num_threads(int(os.environ["BENCH_TORCH_THREADS"]))
model = work.eager(Path(os.environ[work.MODELS]))


@app.route("/v1/is_online/", methods=["POST"])
def recognise() -> Any:
    """As in the document: the transforms are made anew for each photo, and gradients are not switched off."""
    photo = Image.open(request.get_json()["image_path"]).convert("RGB")
    return str(torch.argmax(model(work.transform()(photo).unsqueeze(0))).item())
