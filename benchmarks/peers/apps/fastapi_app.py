"""FastAPI as its documentation has it: a pydantic model, a plain `def`, run by uvicorn with one process.

uvicorn benchmarks.peers.apps.fastapi_app:app --port 8000
"""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers import work

app = FastAPI()
classify = work.load("onnxruntime")


class Photo(BaseModel):
    """The request of the classroom document."""

    image_id: str
    image_base64: str
    detail: bool = False


@app.post("/predict")
def predict(photo: Photo) -> dict[str, Any]:
    """One photo; FastAPI calls this in a pool of threads."""
    return work.answer(classify, photo.model_dump())
