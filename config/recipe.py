"""A recipe: everything in which one task differs from another, as data.

    from config.recipe import read_recipe
    read_recipe("classroom")            # config/recipes/classroom.yaml
    read_recipe("path/to/mine.yaml")

`handler.spec` has the serving half of a recipe. This module adds drawing, training, pruning, the gate and the export.
Defaults are the settings of the classroom document (sections 6.3 and 6.4; docs/sources.md), unless a comment says
otherwise.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from common.errors import InvalidInput, NotFound
from common.words import did_you_mean
from handler.spec import Section, Spec

FOLDER = Path(__file__).parent / "recipes"
NO_CLASS = "no_class"
"""The label of photos that show none of the classes, in tables and as a folder; no recipe may have it as a class."""

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Tensor = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$")]
Drawing = Literal["room", "call", "rooms", "screens", "lessons", "papers", "pictures", "discs", "stripes", "crosses"]
BackboneName = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "efficientnet_lite0",
    "vgg16",
    "smallnet",
    "cifar_net",
    "mnist_net",
    "scenes_net",
]
SCOPE_OUTPUT = "in_scope"
"""The name of a graph's second output."""
INPUTS = {"cifar_net": (3, 32, 32), "mnist_net": (1, 28, 28)}
"""Backbones with one fixed input: (channels, height, width). All others accept RGB of any size."""


class Backbone(Section):
    """`weights`: `imagenet`, `none` (random), or the path of a state dict.

    `pool`: squares of this many pixels are averaged inside the graph, after scaling. The input keeps the recipe's
    size; with 2 the network sees half its height and width, a quarter of the multiplications. Rows and columns beyond
    a whole multiple are dropped.

    `mean` and `std`, in units of 0 to 255, replace the backbone's scaling; its ImageNet weights are then adapted to
    them (training/models/registry.py), a file of weights is loaded unchanged. `dropout`: the share of the last layer's
    inputs that is set to zero in training.
    """

    name: BackboneName = "resnet18"
    weights: str = "imagenet"
    pool: int = Field(1, ge=1, le=4)
    mean: tuple[float, ...] | None = None
    std: tuple[Positive, ...] | None = None
    dropout: float = Field(0.0, ge=0, lt=1)


class Augment(Section):
    """Random changes to a training photo, different each time it is used. Ranges are uniform.

    `scale`: share of the area that a crop keeps (RandomResizedCrop with the classroom document's default).
    `sides`: instead of `scale`, resize the shorter side to a length of this range (pixels), then crop the recipe's size
    anywhere. `ratio`: aspect ratio of a crop. `flip`: share of photos that are mirrored. `border`: share of photos
    that get black bars on two sides, like screenshots of photos. `brightness`, `contrast` and `saturation`: as in
    torchvision's ColorJitter; the contrast may be a range of factors. `jpeg`: re-encode at a quality of this range.
    `shrink`: first scale down by a factor of this range. Photos from the web have been through both, and the label
    must not be recognisable from the file type.
    """

    scale: tuple[Positive, Share] = (0.08, 1.0)
    sides: tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]] | None = None
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    flip: Share = 0.0
    border: Share = 0.0
    brightness: Share = 0.0
    contrast: Share | tuple[Positive, Positive] = 0.0
    saturation: Share = 0.0
    jpeg: tuple[Annotated[int, Field(ge=1, le=100)], Annotated[int, Field(ge=1, le=100)]] | None = None
    shrink: tuple[Share, Share] | None = None

    @field_validator("scale", "ratio", "jpeg", "shrink", "sides", "contrast")
    @classmethod
    def _ascending(cls, value: float | tuple[float, float] | None) -> float | tuple[float, float] | None:
        if isinstance(value, tuple) and value[0] > value[1]:
            raise ValueError("write the lower end of the range first")
        return value


class Fit(Section):
    """One optimisation: SGD, Adam or AdamW with a learning rate schedule.

    Its length is given in one of two ways:

    - `epochs` passes over the photos. A round is an epoch.
    - `max_steps` batches, over as many passes as needed; `epochs` is ignored then. A round is `save_every` steps.

    After each round the model is evaluated and a checkpoint is written. `patience`, `step_size` and `Train.copies`
    count rounds. With `max_steps`, an evaluation uses `evaluate_batches` random batches of held-out photos (null: all).

    Learning rate schedules: `step` multiplies it by `gamma` after every `step_size` rounds; `cosine` lowers it to zero;
    `decay` multiplies it by `decay` after every `every` steps.
    """

    # Length in epochs
    epochs: int = Field(5, ge=0, le=10_000)
    # Length in steps: these keys have an effect only if max_steps is given
    max_steps: int | None = Field(None, ge=1, le=10_000_000, description="batches, instead of epochs")
    save_every: int = Field(200, ge=1, description="steps per round, at most max_steps")
    evaluate_every: int | None = Field(None, ge=1, description="steps between two evaluations")
    evaluate_batches: int | None = Field(None, ge=1, description="batches of held-out photos per evaluation")
    keep_checkpoints: int = Field(0, ge=0, le=100, description="number of the latest checkpoints that stay in the run")
    # Both
    report_every: int | None = Field(None, ge=1, description="batches between two printed losses")
    batch_size: int = Field(8, ge=1, le=4096)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: Positive = 0.001
    momentum: Share = 0.9
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["step", "cosine", "decay"] = "step"
    step_size: int = Field(7, ge=1)
    gamma: Share = 0.1
    decay: Share = 0.9
    every: int = Field(250, ge=1)
    keep: Literal["best", "last"] = "best"
    patience: int | None = Field(None, ge=1, description="stop after this many rounds without a lower validation loss")
    class_weights: bool = Field(False, description="weight classes inversely to their number of photos")
    sampling: Literal["shuffle", "balanced"] = Field("shuffle", description="balanced: draw all classes equally often")
    distill: Share = Field(0.0, description="share of the loss that comes from the teacher's probabilities")
    match: float = Field(0.0, ge=0, description="weight of the loss between the student's and the teacher's features")
    norms: Literal["batch", "frozen", "adapted"] = Field(
        "batch",
        description="frozen: batch norms keep their statistics; adapted: with freeze, they first take those of the "
        "training photos, because the classroom document's loop leaves batch norms in training mode",
    )

    @model_validator(mode="after")
    def _whole_rounds(self) -> "Fit":
        if self.max_steps and self.max_steps % self.round_steps:
            raise ValueError(
                f"max_steps {self.max_steps} is not a multiple of save_every: make it a multiple of {self.save_every}"
            )
        return self

    @property
    def round_steps(self) -> int:
        """Steps per round, if the length is given in steps."""
        return min(self.save_every, self.max_steps or self.save_every)

    @property
    def rounds(self) -> int:
        """Number of rounds, each ending with an evaluation and a checkpoint."""
        return self.max_steps // self.round_steps if self.max_steps else self.epochs

    @property
    def learns_from_teacher(self) -> bool:
        """Whether the loss has a part that comes from a teacher."""
        return self.distill > 0 or self.match > 0


class Train(Fit):
    """Training of a network.

    `freeze`: train only the last layer. `copies` augmented views of each photo then pass through the other layers once,
    and the epochs use them in turn. `validation`: share of the photos that is held out, by source. `cache` affects
    only how often a photo is decoded, never the result.
    """

    freeze: bool = False
    copies: int = Field(4, ge=1, le=1000, description="augmented views of each photo, with freeze")
    cache: int | None = Field(
        None, ge=0, description="megabytes of decoded photos in memory; default: half of the free memory"
    )
    validation: float = Field(0.2, gt=0, lt=1)
    precision: Literal["auto", "f32", "bf16"] = Field("auto", description="auto: bf16 if the CPU supports it")
    seed: int = 0


class Prune(Fit):
    """Pruning, and the fine-tuning after it.

    `unstructured` (the classroom document's method): sets the share `amount` of all weights to zero; they stay zero.
    `layers`: `convolutions` are all except the down-sampling ones; `document` is that document's list for ResNet-18,
    which includes the batch norms of the first layers.

    `channel`: removes the share `amount` of the channels of every convolution, in `steps` equal steps with
    fine-tuning after each. The numbers of channels are rounded to the nearest multiple of `round_to`, never to zero.
    The result is the last step whose loss of accuracy on the held-out photos is at most `gate.max_loss`, and whose net
    regressions (photos that only the parent gets right minus those that only the child does) are at most `most_flips`.
    """

    method: Literal["unstructured", "channel"] = "unstructured"
    layers: Literal["convolutions", "document"] = "convolutions"
    amount: float = Field(0.45, ge=0, lt=1)
    steps: int = Field(3, ge=1, le=20)
    round_to: int = Field(16, ge=1, le=256)
    most_flips: int = Field(2, ge=0, description="most net regressions; also of int8 compared with float")

    @model_validator(mode="after")
    def _layers_fit_method(self) -> "Prune":
        if self.method == "channel" and self.layers == "document":
            raise ValueError("layers: document requires method unstructured: leave layers out, or change method")
        return self


class Gate(Section):
    """Conditions for exporting a run: least balanced accuracy, and largest loss of it compared with the parent."""

    mean_accuracy: Share = 0.95
    max_loss: Share = 0.01


class Export(Section):
    """`int8: auto` quantises as many layers as the gate and `prune.most_flips` permit; otherwise weights are fp16.

    `opset`: of the graph. Below 18 torch's older exporter is used. Below 13 there is no int8, because opset 13
    introduced scales per channel. `input` and `output`: names of the graph's tensors; serving does not depend on them.
    """

    int8: Literal["auto", "never"] = "auto"
    calibration: int = Field(128, ge=1, description="photos for post-training quantisation")
    opset: int = Field(18, ge=9, le=30)
    input: Tensor = "input"
    output: Tensor = "logits"

    @model_validator(mode="after")
    def _two_names(self) -> "Export":
        if self.input == self.output:
            raise ValueError(f"input and output are both {self.input}: give different names")
        if SCOPE_OUTPUT in (self.input, self.output):
            raise ValueError(f"{SCOPE_OUTPUT} is the name of the graph's second output: give another name")
        return self


class Recipe(Spec):
    """A complete recipe. The sections document their fields.

    `aliases`: other names for labels in data sets, as folders or in tables -> the label.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = ""
    aliases: dict[str, str] = Field(default_factory=dict)
    drawn: dict[str, Drawing] = Field(default_factory=dict)
    backbone: Backbone = Backbone()
    augment: Augment = Augment()
    train: Train = Train()
    prune: Prune = Prune()
    gate: Gate = Gate()
    export: Export = Export()
    folds: int = Field(5, ge=2, description="of grouped cross-validation")

    @model_validator(mode="after")
    def _sides_fit_the_crop(self) -> "Recipe":
        longest = max(self.input.height, self.input.width)
        if self.augment.sides and self.augment.sides[0] < longest:
            raise ValueError(
                f"augment.sides begins at {self.augment.sides[0]}, below the crop of {longest}: begin at {longest}"
            )
        return self

    @model_validator(mode="after")
    def _no_class_is_no_label(self) -> "Recipe":
        if NO_CLASS in self.labels:
            raise ValueError(f"labels: {NO_CLASS} is reserved for photos of none of the classes: use another name")
        return self

    @model_validator(mode="after")
    def _drawings_fit_labels(self) -> "Recipe":
        unknown = set(self.drawn) - {*self.labels, NO_CLASS}
        if unknown:
            raise ValueError(f"drawn: {sorted(unknown)} are not labels: legal are {list(self.labels)}")
        return self

    @model_validator(mode="after")
    def _aliases_are_of_labels(self) -> "Recipe":
        unknown = set(self.aliases.values()) - set(self.labels)
        if unknown:
            raise ValueError(f"aliases: {sorted(unknown)} are not labels: legal are {list(self.labels)}")
        both = set(self.aliases) & set(self.labels)
        if both:
            raise ValueError(f"aliases: {sorted(both)} are labels already: leave them out")
        return self

    @model_validator(mode="after")
    def _backbone_takes_input(self) -> "Recipe":
        name, pool = self.backbone.name, self.backbone.pool
        seen = (self.input.channels, self.input.height // pool, self.input.width // pool)
        if seen != INPUTS.get(name, (3, *seen[1:])):
            required = "{} x {} x {}".format(*INPUTS[name]) if name in INPUTS else "3 channels"
            raise ValueError(f"{name} requires an input of {required}: change input, or use another backbone")
        return self


def read_recipe(name: str | Path) -> Recipe:
    """Read and validate a recipe by name or path.

    Raises:
        InvalidInput, NotFound: the message has the file, key, value and legal values.
    """
    path = _find(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return validated(content, str(path))


def validated(content: Any, origin: str) -> Recipe:
    """Make a recipe from plain data.

    Raises:
        InvalidInput: with one line per error: origin, key, value and legal values.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise InvalidInput("\n".join(f"{origin}: {_explain(entry)}" for entry in error.errors())) from error


def from_saved(text: str) -> Recipe:
    """The recipe of a run's or a bundle's recipe.json.

    Raises:
        ValueError: it is not JSON, or not a valid recipe.
    """
    content = json.loads(text)
    backbone = content.get("backbone") if isinstance(content, dict) else None
    if isinstance(backbone, dict) and backbone.get("width") == 1:
        del backbone["width"]  # a key of former versions, which wrote its default into every file
    return Recipe.model_validate(content)


def override(recipe: Recipe, section: str, **values: Any) -> Recipe:
    """Change values of a section, as options of a command do, and validate the result. None changes nothing.

    Raises:
        InvalidInput: a value is not legal.
    """
    content = recipe.model_dump()
    content[section] |= {key: value for key, value in values.items() if value is not None}
    return validated(content, "command line")


def with_threshold(recipe: Recipe, fitted: float | None) -> Recipe:
    """The recipe with a fitted `answer.scope_threshold`, unless it sets one itself; None changes nothing."""
    if recipe.answer.scope_threshold is not None:
        return recipe
    return override(recipe, "answer", scope_threshold=fitted)


def names() -> list[str]:
    """The names of the recipes in config/recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def _find(name: str | Path) -> Path:
    if Path(name).suffix in (".yaml", ".yml"):
        return Path(name)
    if str(name) not in names():
        hint = did_you_mean(str(name), names())
        raise NotFound(f"no recipe {name}", f"{hint}legal are {', '.join(names())}, or a path to a .yaml file")
    return FOLDER / f"{name}.yaml"


def _explain(entry: Any) -> str:
    key = ".".join(map(str, entry["loc"])) or "the recipe"
    if entry["type"] == "extra_forbidden":
        legal = _keys(entry["loc"][:-1])
        return f"{key}: unknown key; {did_you_mean(str(entry['loc'][-1]), legal)}legal are {', '.join(legal)}"
    if entry["type"] == "missing":
        return f"{key}: missing"
    if entry["type"] == "value_error":  # one of our validators, whose message names the value and the fix
        return f"{key}: {entry['ctx']['error']}"
    return f"{key}: {entry['input']!r:.60} given; {entry['msg'][0].lower()}{entry['msg'][1:]}"


def _keys(location: tuple[Any, ...]) -> list[str]:
    model: Any = Recipe
    for part in location:
        model = model.model_fields[part].annotation
    return sorted(model.model_fields)
