"""The serving half of a recipe: labels, input size, limits, runtime.

The handler's code contains no label and no task-specific number. It reads them from the `recipe.json` that the
archive holds next to the graph. `config.recipe` adds the training half.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Label = Annotated[str, Field(min_length=1, max_length=100)]


class Section(BaseModel):
    """A section of a recipe: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(Section):
    """The input of the network: uint8, CHW, of exactly this size; RGB, or grey (ITU-R 601 luma) with 1 channel.

    `height` comes first, as in torchvision's `Resize((height, width))`. `shorter` requires `crop`: the shorter side
    is resized to this many pixels, then the centre is cropped, as torchvision's `Resize(shorter)` and `CenterCrop` do.
    Without it the largest centred area with the right aspect ratio is cropped.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size as long as at least `margin` times the input's height and width
    remain. At 1.5 this changes a pixel by 0.15 levels of 255 on average (benchmarks/scaled.py, docs/log.md). A network
    that averages 3 x 3 pixels first (`backbone.pool: 3`) needs a third of that.
    """

    height: int = Field(ge=8, le=4096)
    width: int = Field(ge=8, le=4096)
    channels: Literal[1, 3] = 3
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    margin: float = Field(1.5, gt=0, le=64)
    shorter: int | None = Field(None, ge=8, le=8192)
    declared: bool = Field(False, description="check the `shape` and `content_type` of a request against this input")

    @model_validator(mode="after")
    def _shorter_fits(self) -> "Input":
        if self.shorter is None:
            return self
        if self.resize != "crop":
            raise ValueError(f"shorter requires resize crop, not {self.resize}: leave it out, or set resize to crop")
        if self.shorter < max(self.height, self.width):
            raise ValueError(f"shorter must be at least {max(self.height, self.width)}, the larger side of the crop")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.channels, self.height, self.width


class Limits(Section):
    """Limits of a request and its photos. `bytes` is the size of the image file, not of its base64 text.

    `photo_seconds` and `request_seconds` are CPU time of decoding, for one photo and for all photos of a request.
    `photo_megabytes` is the memory that decoding one photo may take.
    """

    bytes: int = Field(10 * 2**20, ge=1)
    pixels: int = Field(50_000_000, ge=1, le=170_000_000)  # Pillow itself refuses more
    items: int = Field(16, ge=1, le=1024)
    image_id: int = Field(256, ge=1, description="longest image_id, in characters")
    photo_seconds: float = Field(1, gt=0, le=30)
    photo_megabytes: int = Field(400, ge=50, le=100_000)
    request_seconds: float = Field(2, gt=0, le=45)


class Answer(Section):
    """`label`: {"image_id", "result"}; `top` adds "top", the `top` most likely labels with their scores, best first.

    With `detail`, an answer whose highest probability is below `unsure_below` is marked `unsure`.

    A model that was trained with photos of no class also says whether a photo is in scope. One whose `in_scope` is
    below `scope_threshold` is out of scope: `flag` marks it in the detail, `refuse` answers 422. Null: export writes
    the threshold that it fitted into the bundle.
    """

    format: Literal["label", "top"] = "label"
    top: int = Field(3, ge=1, le=100)
    unsure_below: float = Field(0.8, ge=0, le=1)
    out_of_scope: Literal["flag", "refuse"] = "flag"
    scope_threshold: float | None = Field(None, ge=0, le=1)

    def is_out_of_scope(self, in_scope: float | None) -> bool:
        """Whether a photo with this probability of being in scope is out of scope; None never is."""
        return in_scope is not None and in_scope < (0.5 if self.scope_threshold is None else self.scope_threshold)


class Runtime(Section):
    """The runtime of the graph. The precision is fixed here, because OpenVINO's default depends on the CPU (bf16).

    `device` applies to onnxruntime: `cuda` fails on a machine without a GPU, `auto` falls back to the CPU. f16 needs
    a GPU.
    """

    engine: Literal["openvino", "onnxruntime"] = "openvino"
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    precision: Literal["f32", "bf16", "f16"] = "f32"
    threads: int = Field(2, ge=1, le=256)

    @model_validator(mode="after")
    def _consistent(self) -> "Runtime":
        if self.engine == "onnxruntime" and self.precision == "bf16":
            raise ValueError("onnxruntime has no bf16: set precision to f32, or engine to openvino")
        if self.device != "cpu" and self.engine != "onnxruntime":
            raise ValueError(f"{self.engine} runs only on CPUs here: set device to cpu, or engine to onnxruntime")
        if self.precision == "f16" and self.device == "cpu":
            raise ValueError("f16 needs a GPU: set device to cuda or auto, or precision to f32")
        return self


class Capture(Section):
    """Copies of photos that are answered, for the review of the feedback pages (docs/feedback.md). Off by default.

    All that are unsure, all that are out of scope, and a random share of everything. `photos_per_hour` limits each of
    the three, in each worker. `megabytes` (10^6 bytes) limits the folder of copies that wait for the pages.
    """

    on: bool = False
    random: float = Field(0.01, ge=0, le=1)
    photos_per_hour: int = Field(100, ge=1, le=1_000_000)
    megabytes: int = Field(1000, ge=1, le=1_000_000)


class Goldens(Section):
    """Drawn photos whose answers are checked when an archive is packed and at every worker start."""

    count: int = Field(8, ge=8, le=64)
    margin: float = Field(0.3, ge=0.3, lt=1, description="minimum p(first) - p(second) of a golden photo")
    tolerance: float = Field(0.02, gt=0, lt=0.5, description="largest accepted |p - recorded p|")


class Rollout(Section):
    """Conditions for making a version the default, and how many former versions stay registered."""

    latency_ratio: float = Field(1.5, gt=0, description="highest latency, as a multiple of the current default's")
    keep: int = Field(1, ge=0, le=8, description="former versions that stay registered for rollback, newest first")
    workers: int = Field(1, ge=1, le=64)


class Spec(BaseModel):
    """The serving half of a recipe; keys of the training half are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    labels: tuple[Label, ...] = Field(min_length=2)
    input: Input
    limits: Limits = Limits()
    answer: Answer = Answer()
    runtime: Runtime = Runtime()
    goldens: Goldens = Goldens()
    capture: Capture = Capture()
    rollout: Rollout = Rollout()

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(labels)) != len(labels):
            repeated = next(label for label in labels if labels.count(label) > 1)
            raise ValueError(f"the label {repeated} is listed twice: list every label once")
        return labels


def read_spec(path: Path) -> Spec:
    """Read the `recipe.json` that `training export` wrote.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not JSON, or not a recipe (pydantic.ValidationError).
    """
    return Spec.model_validate(json.loads(path.read_text(encoding="utf-8")))
