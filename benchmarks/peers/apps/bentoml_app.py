"""BentoML as its documentation has it: a service class with one API.

bentoml serve benchmarks.peers.apps.bentoml_app:Classifier --port 8000
"""

from typing import Any

import bentoml

from benchmarks.peers import work


@bentoml.service
class Classifier:
    """One worker process with one model."""

    def __init__(self) -> None:
        self.classify = work.load()

    @bentoml.api(route="/predict")
    def predict(self, image_id: str, image_base64: str, detail: bool = False) -> dict[str, Any]:
        """One photo."""
        request = {"image_id": image_id, "image_base64": image_base64, "detail": detail}
        return work.answer(self.classify, request)
