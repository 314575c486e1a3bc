"""FastAPI as its documentation has it: a pydantic model, a plain `def`, run by uvicorn with one process.

uvicorn benchmarks.peers.apps.fastapi_app:app --port 8000
"""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers import work

app = FastAPI()
classify = work.load("onnxruntime")


class Asked(BaseModel):
    """The document's request."""

    image_id: str
    image_base64: str
    detail: bool = False


@app.post("/predict")
def predict(asked: Asked) -> dict[str, Any]:
    """One photo; FastAPI calls this in a pool of threads."""
    return work.answer(classify, asked.model_dump())
