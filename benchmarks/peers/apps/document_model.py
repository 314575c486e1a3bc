"""The classroom document's model service (Flask under gunicorn): takes a photo's path, returns its label's index.

    gunicorn -w 4 -b 127.0.0.1:5005 benchmarks.peers.apps.document_model:app

For measurements only: a service that opens any path that a client sends is a security hole.
"""

import os
from pathlib import Path
from typing import Any

import torch
from flask import Flask, request
from PIL import Image

from benchmarks.peers import work

app = Flask(__name__)
if "BENCH_TORCH_THREADS" in os.environ:  # only the tuned chain sets it
    torch.set_num_threads(int(os.environ["BENCH_TORCH_THREADS"]))
model = work.eager(Path(os.environ[work.MODELS]))


@app.route("/v1/is_online/", methods=["POST"])
def recognise() -> Any:
    """As in the classroom document, the transforms are built again for each photo, and gradients stay enabled."""
    photo = Image.open(request.get_json()["image_path"]).convert("RGB")
    return str(torch.argmax(model(work.transform()(photo).unsqueeze(0))).item())
