"""Stands in for the cloud's module: the base class that a package's customize_service.py derives from."""

from typing import Any


class PTServingBaseService:
    """The three methods in turn, as the platform calls them; a service overrides some of them."""

    def __init__(self, model_name: str, model_path: str) -> None:
        self.model_name = model_name
        self.model_path = model_path
        self.model: Any = None

    def inference(self, data: dict[str, Any]) -> Any:
        return self._postprocess(self._inference(self._preprocess(data)))

    def _preprocess(self, data: Any) -> Any:
        return data

    def _inference(self, data: Any) -> Any:
        return {key: self.model(value) for key, value in data.items()}

    def _postprocess(self, data: Any) -> Any:
        return data
