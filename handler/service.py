"""The TorchServe handler: initialize, preprocess, inference, postprocess.

A batch holds requests of several clients. Each request gets its own HTTP status and answer; an error in one
does not affect the others.
"""

import json
import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import torch

from handler import engine, goldens, request, requestlog
from handler.base import BaseHandler
from handler.budget import Budget
from handler.capture.capturing import capturing
from handler.decoders import Decoders
from handler.decoding.common_case import is_common
from handler.engine import Answer, Probabilities
from handler.errors import OutOfScope, RequestError
from handler.image import Pixels, preprocess
from handler.spec import read_spec
from handler.worker import priority

log = logging.getLogger(__name__)


@dataclass
class Photo:
    """One photo as it is processed: item, then pixels, then the engine's answer. An error is final.

    The budget is that of its request.
    """

    item: request.Item
    budget: Budget
    pixels: Pixels | None = None
    answer: Answer | None = None
    error: RequestError | None = None


@dataclass
class Row:
    """One client's request: its photos, whether it was a list, the client's id for it, and its size in bytes."""

    photos: list[Photo]
    many: bool
    client_request_id: str | None = None
    bytes: int = 0


class ClassifierService(BaseHandler):  # type: ignore[misc]
    """Classifies photos with the labels of the archive's recipe."""

    def initialize(self, context: Any) -> None:
        """Load recipe and graph from the unpacked archive, and check the golden photos.

        Raises:
            goldens.GoldenMismatch: the graph answers a golden photo differently; the message has both answers.
        """
        torch.set_num_threads(1)  # torch only resizes; its idle threads would take the engine's cores
        self.context = context
        self.manifest = context.manifest
        root = Path(context.system_properties["model_dir"])
        self.version = str(self.manifest["model"]["modelVersion"])
        self.spec = read_spec(root / "recipe.json")
        self.decoders = Decoders(self.spec.input, self.spec.limits)
        threads = engine.threads_here(self.spec.name, self.version) or self.spec.runtime.threads
        self.engine = engine.load(root / "model.onnx", self.spec, threads, batches=True)
        self.threads = ThreadPoolExecutor(threads)
        self.capturing = capturing(self.spec.capture)
        difference = goldens.check(root, self.spec, engine.from_bytes(self.engine, self.spec))
        was_idle = priority.restore(self.decoders.pids())
        log.info(
            "%s %s ready with %d thread(s), goldens within %.4f, started %s",
            self.spec.name,
            self.version,
            threads,
            difference,
            "in idle time" if was_idle else "at the usual priority",
        )
        self.started_cpu_s = time.process_time()
        self.initialized = True

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[str]:
        """Answer one batch: as many JSON texts as requests, in the same order."""
        self.context = context
        started = time.perf_counter()
        self.started_cpu_s = time.process_time()
        rows = self.inference(self.preprocess(data))
        answers = self.postprocess(rows)
        if self.capturing:
            self._capture(photo for row in rows for photo in row.photos)
        seconds = time.perf_counter() - started
        context.metrics.add_time("HandlerTime", round(seconds * 1000, 2), None, "ms")
        self._log(rows, seconds)
        return answers

    def preprocess(self, data: list[dict[str, Any]]) -> list[Row]:
        """Requests as TorchServe passes them -> rows with pixels or errors."""
        rows = [self._row(index, parameters) for index, parameters in enumerate(data)]
        photos = [photo for row in rows for photo in row.photos if photo.error is None]
        for _ in self.threads.map(self._decode, photos) if len(photos) > 1 else map(self._decode, photos):
            pass
        return rows

    def inference(self, data: list[Row], *args: Any, **kwargs: Any) -> list[Row]:
        """Rows with pixels -> rows with answers."""
        photos = [photo for row in data for photo in row.photos if photo.pixels is not None]
        results = self.engine.batch([photo.pixels for photo in photos if photo.pixels is not None])
        for photo, answer in zip(photos, results, strict=True):
            photo.answer = answer
            if self.spec.answer.out_of_scope == "refuse" and self._is_out_of_scope(photo):
                photo.error = self._refusal(answer)
        return data

    def postprocess(self, data: list[Row]) -> list[str]:
        """Rows -> JSON texts; sets the status and content type of each request."""
        return [self._answer(index, row) for index, row in enumerate(data)]

    def _row(self, index: int, parameters: dict[str, Any]) -> Row:
        headers = self.context.get_all_request_header(index)
        declared = self.spec.input if self.spec.input.declared else None
        parsed = request.parse(parameters, headers, self.spec.limits, declared)
        budget = Budget(self.spec.limits.request_seconds)
        photos = [Photo(item, budget, error=item.error) for item in parsed.items]
        return Row(photos, parsed.many, requestlog.client_request_id(headers), requestlog.size(parameters))

    def _decode(self, photo: Photo) -> None:
        try:
            photo.pixels = self._pixels(photo)
        except RequestError as error:
            # Not the error itself: its frames hold the photo, a cycle that keeps megabytes until the collector comes.
            photo.error = type(error)(error.code, error.message)
        except Exception:  # despite a bug with one photo the others of the batch are answered
            log.exception("preprocessing failed")
            photo.error = RequestError(
                "internal_error", "the server failed to process this photo: report the X-Request-Id of this answer"
            )

    def _pixels(self, photo: Photo) -> Pixels:
        data = photo.item.image
        if not is_common(data):
            return self.decoders.preprocess(data, photo.budget)
        with photo.budget.in_this_thread():
            return preprocess(data, self.spec.input, self.spec.limits)

    def _answer(self, index: int, row: Row) -> str:
        status = _status(row)
        self.context.set_response_status(int(status), status.phrase, index)
        self.context.set_response_content_type(index, "application/json")
        if row.client_request_id:
            self.context.set_response_header(index, requestlog.ECHO, row.client_request_id)
        if any(photo.item.detail for photo in row.photos):
            cpu_ms = (time.process_time() - self.started_cpu_s) * 1000
            self.context.set_response_header(index, requestlog.TIMING, requestlog.timing(cpu_ms))
        entries = [self._entry(photo) for photo in row.photos]
        return json.dumps(entries if row.many else entries[0])

    def _capture(self, photos: Iterable[Photo]) -> None:
        assert self.capturing
        for photo in photos:
            if photo.answer is None:
                continue
            unsure = float(photo.answer.probabilities.max()) < self.spec.answer.unsure_below
            facts = partial(self._facts, photo.answer)
            self.capturing.offer(photo.item.image, unsure, self._is_out_of_scope(photo), facts)

    def _facts(self, answer: Answer) -> dict[str, Any]:
        """What is stored with a captured photo; nothing that the client has sent."""
        result, _ = self._result(answer.probabilities)
        return {"model": self.spec.name, "result": result, **self._detail(answer)}

    def _log(self, rows: list[Row], seconds: float) -> None:
        lost = self.capturing.newly_lost() if self.capturing else 0
        for index, row in enumerate(rows):
            answered = [photo for photo in row.photos if photo.error is None]
            answers = [photo.answer for photo in answered if photo.answer is not None]
            results = tuple(self._result(answer.probabilities) for answer in answers)
            requestlog.write(
                requestlog.Line(
                    request_id=self.context.get_request_id(index),
                    client_request_id=row.client_request_id,
                    model=self.context.model_name,
                    version=self.version,
                    status=int(_status(row)),
                    code=next((photo.error.code for photo in row.photos if photo.error), "ok"),
                    photos=len(row.photos),
                    batch=len(rows),
                    seconds=round(seconds, 5),
                    bytes=row.bytes,
                    results=results,
                    unsure=sum(confidence < self.spec.answer.unsure_below for _, confidence in results),
                    out_of_scope=self._out_of_scope(row),
                    in_scope=tuple(round(one.in_scope, 6) for one in answers if one.in_scope is not None),
                    light=tuple(_light(photo.pixels) for photo in answered if photo.pixels is not None),
                    capture_lost=0 if index else lost,
                )
            )

    def _result(self, scores: Probabilities) -> tuple[str, float]:
        return self.spec.labels[int(scores.argmax())], round(float(scores.max()), 6)

    def _entry(self, photo: Photo) -> dict[str, Any]:
        entry: dict[str, Any] = {"image_id": photo.item.image_id}
        if photo.error or photo.answer is None:
            return entry | {"error": photo.error.as_json() if photo.error else None}
        entry["result"] = self.spec.labels[int(photo.answer.probabilities.argmax())]
        if self.spec.answer.format == "top":
            entry["top"] = self._top(photo.answer.probabilities)
        return entry | self._detail(photo.answer) if photo.item.detail else entry

    def _top(self, scores: Probabilities) -> list[dict[str, Any]]:
        """The most likely labels with scores of 0 to 1, best first; equal scores in the order of the recipe."""
        order = (-scores).argsort(kind="stable")[: self.spec.answer.top]
        return [{"label": self.spec.labels[index], "score": round(float(scores[index]), 6)} for index in order]

    def _detail(self, answer: Answer) -> dict[str, Any]:
        scores = answer.probabilities
        confidence = float(scores.max())
        return {
            "probabilities": {label: round(float(p), 6) for label, p in zip(self.spec.labels, scores, strict=True)},
            "confidence": round(confidence, 6),
            "unsure": confidence < self.spec.answer.unsure_below,
            **self._scope(answer.in_scope),
            "model_version": self.version,
        }

    def _scope(self, in_scope: float | None) -> dict[str, Any]:
        """The two keys of a model that knows what is out of scope; none for another."""
        if in_scope is None:
            return {}
        return {"in_scope": round(in_scope, 6), "out_of_scope": self.spec.answer.is_out_of_scope(in_scope)}

    def _is_out_of_scope(self, photo: Photo) -> bool:
        return photo.answer is not None and self.spec.answer.is_out_of_scope(photo.answer.in_scope)

    def _out_of_scope(self, row: Row) -> int | None:
        """How many photos of a request are out of scope; None if the model does not know."""
        if all(photo.answer is None or photo.answer.in_scope is None for photo in row.photos):
            return None
        return sum(map(self._is_out_of_scope, row.photos))

    def _refusal(self, answer: Answer) -> RequestError:
        return OutOfScope(
            "out_of_scope",
            f"the photo probably shows none of the classes of {self.spec.name} (in_scope {answer.in_scope:.4f}): "
            "send a photo of one of them",
        )


def _light(pixels: Pixels) -> tuple[float, float]:
    """Mean and standard deviation of some thousand pixels, 0 to 255: all of them would take 30 times as long."""
    step = max(1, min(pixels.shape[1:]) // 32)
    some = pixels[:, ::step, ::step]
    return round(float(some.mean()), 1), round(float(some.std()), 1)


def _status(row: Row) -> HTTPStatus:
    """The status of a single photo; for a list 200, unless all of its photos failed (400)."""
    failed = [photo.error for photo in row.photos if photo.error]
    if len(failed) < len(row.photos):
        return HTTPStatus.OK
    return HTTPStatus.BAD_REQUEST if row.many else failed[0].status
