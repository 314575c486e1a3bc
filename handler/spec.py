"""What an archive must know about its task: the serving half of a recipe.

The handler holds no number and no label of its own; all of them are here, read
from the `recipe.json` that lies in the archive beside the graph.
`training.recipe` adds the training half.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Label = Annotated[str, Field(min_length=1, max_length=100)]


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(Section):
    """What the network sees: uint8, CHW, of exactly this size; RGB, or grey (ITU-R 601 luma) with 1 channel.

    `height` comes first, as in torchvision's `Resize((height, width))`. `shorter` goes with `crop`: the shorter side
    is brought to so many pixels first, then the centre is cut out, as `Resize(shorter)` and `CenterCrop` do;
    without it the largest centre of the right shape is taken.

    A JPEG is decoded at 1/2, 1/4 or 1/8 where that leaves `margin` times this size in both directions: at 1.5 a pixel
    moves by 0.15 levels of 255 in the mean (benchmarks/scaled.py, docs/log.md). A network that sees means of 3 x 3
    pixels wants a third of it.
    """

    height: int = Field(ge=8, le=4096)
    width: int = Field(ge=8, le=4096)
    channels: Literal[1, 3] = 3
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    margin: float = Field(1.5, gt=0, le=64)
    shorter: int | None = Field(None, ge=8, le=8192)
    declared: bool = Field(False, description="hold a photo's `shape` and `content_type` in a request against this")

    @model_validator(mode="after")
    def _shorter_fits(self) -> "Input":
        if self.shorter is None:
            return self
        if self.resize != "crop":
            raise ValueError(f"shorter goes with resize crop, not {self.resize}: leave it out, or set resize to crop")
        if self.shorter < max(self.height, self.width):
            raise ValueError(f"shorter must be at least {max(self.height, self.width)}, the larger side of the crop")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, self.height, self.width


class Limits(Section):
    """What is refused before decoding. Bytes are those of the picture file, not of its base64."""

    bytes: int = Field(10 * 2**20, ge=1)
    pixels: int = Field(50_000_000, ge=1, le=170_000_000)  # above it Pillow refuses by itself
    items: int = Field(16, ge=1, le=1024)
    image_id: int = Field(256, ge=1, description="longest image_id, in characters")


class Answer(Section):
    """`label`: {"image_id", "result"}; `top` adds "top", the `top` likeliest labels with their scores, best first.

    Below `unsure_below` (probability) `detail` says unsure.
    """

    format: Literal["label", "top"] = "label"
    top: int = Field(3, ge=1, le=100)
    unsure_below: float = Field(0.8, ge=0, le=1)


class Runtime(Section):
    """What runs the graph. The precision is pinned: OpenVINO picks bf16 by itself where a CPU has it.

    `device` is onnxruntime's: `cuda` fails where there is none, `auto` takes the CPU then. f16 is computed on a GPU.
    """

    engine: Literal["openvino", "onnxruntime"] = "openvino"
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    precision: Literal["f32", "bf16", "f16"] = "f32"
    threads: int = Field(2, ge=1, le=256)

    @model_validator(mode="after")
    def _together(self) -> "Runtime":
        if self.engine == "onnxruntime" and self.precision == "bf16":
            raise ValueError("onnxruntime computes f32 on CPUs: set precision to f32, or engine to openvino")
        if self.device != "cpu" and self.engine != "onnxruntime":
            raise ValueError(f"{self.engine} runs on CPUs here: set device to cpu, or engine to onnxruntime")
        if self.precision == "f16" and self.device == "cpu":
            raise ValueError("f16 is computed on a GPU: set device to cuda or auto, or precision to f32")
        return self


class Goldens(Section):
    """Drawn photos whose answers are checked at packing and at every start."""

    count: int = Field(8, ge=8, le=64)
    margin: float = Field(0.3, ge=0.3, lt=1, description="least p(first) - p(second) of a golden photo")
    tolerance: float = Field(0.02, gt=0, lt=0.5, description="largest |p - p at packing|")


class Rollout(Section):
    """What must hold before a version becomes the default, and what stays of the version before it."""

    latency_ratio: float = Field(1.5, gt=0, description="largest latency, as a multiple of the serving version's")
    keep: int = Field(1, ge=0, le=8, description="former versions that stay registered for rollback, newest first")
    workers: int = Field(1, ge=1, le=64)


class Spec(BaseModel):
    """The serving half of a recipe; keys of the training half are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    labels: tuple[Label, ...] = Field(min_length=2)
    input: Input
    limits: Limits = Limits()
    answer: Answer = Answer()
    runtime: Runtime = Runtime()
    goldens: Goldens = Goldens()
    rollout: Rollout = Rollout()

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(labels)) != len(labels):
            raise ValueError("every label once: index 0 is the first, and so on")
        return labels


def read_spec(path: Path) -> Spec:
    """Read `recipe.json` as `training export` wrote it.

    Raises:
        OSError: it cannot be read.
        pydantic.ValidationError: it is not a recipe.
    """
    return Spec.model_validate(json.loads(path.read_text(encoding="utf-8")))
