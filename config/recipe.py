"""A recipe: all that makes one task differ from another, as data.

    from config.recipe import read_recipe
    read_recipe("classroom")            # config/recipes/classroom.yaml
    read_recipe("path/to/mine.yaml")

`handler.spec` has the serving half, this file adds drawing, training, pruning,
the gate and the export. Every default is the document's own setting, unless its
comment says otherwise (shared documents, "classroom", sections 6.3 and 6.4).
"""

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from common.errors import UserError
from handler.spec import Section, Spec

FOLDER = Path(__file__).parent / "recipes"

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Tensor = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$")]
Drawing = Literal["room", "call", "discs", "stripes", "crosses"]
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
INPUTS = {"cifar_net": (3, 32, 32), "mnist_net": (1, 28, 28)}
"""Backbones that take one input shape alone: channels, height, width. All others take RGB of any size."""


class Backbone(Section):
    """`weights`: `imagenet`, `none` (random), or the path of a state dict.

    `pool`: squares of this many pixels are averaged inside the graph, after scaling. The input keeps the recipe's
    size; with 2 the network sees half its height and width, a quarter of the multiplications. Rows and columns beyond
    a whole multiple are dropped.

    `mean` and `std`, in units of 0 to 255, replace the backbone's own scaling; its ImageNet weights are then adapted to
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
    """What is done to a training photo each time it is seen; ranges are drawn from uniformly.

    `scale` is the share of the area that a crop keeps (torchvision's RandomResizedCrop;
    its defaults are the document's); with `sides` the shorter side is brought to a length of that range instead, in
    pixels, and a crop of the recipe's size is taken anywhere. `brightness`, `contrast` and `saturation` are
    ColorJitter's; the contrast may be a range of factors. `jpeg` re-encodes at a quality of that range, `shrink` first
    scales down by a factor of that range: scraped photos were both, and the
    file type must not give the class away. `border` is the share of photos that
    get bars above and below or beside them, as screenshots of photos have.
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
    """One optimisation: SGD, Adam or AdamW with a schedule, for so many epochs or, if `max_steps` is given, batches.

    Steps run over one pass of the photos after another, in rounds of `save_every`: after each the model is scored, on
    `evaluate_batches` batches of held-out photos drawn anew (all, if null), and a checkpoint is kept. A round takes
    the place of an epoch in `patience`, `step_size` and `copies`. `decay`: the learning rate is multiplied by `decay`
    after `every` steps.
    """

    epochs: int = Field(5, ge=0, le=10_000)
    max_steps: int | None = Field(None, ge=1, le=10_000_000, description="batches, instead of epochs")
    save_every: int = Field(200, ge=1, description="steps of a round; all of them, where there are fewer")
    report_every: int | None = Field(None, ge=1, description="batches from one printed loss to the next")
    evaluate_every: int | None = Field(None, ge=1, description="steps from one look at held-out photos to the next")
    evaluate_batches: int | None = Field(None, ge=1, description="batches of held-out photos in such a look")
    keep_checkpoints: int = Field(0, ge=0, le=100, description="the last so many that were kept stay in the run")
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
    patience: int | None = Field(None, ge=1, description="stop after so many epochs without a lower validation loss")
    class_weights: bool = Field(False, description="weigh classes inversely to their counts")
    sampling: Literal["shuffle", "balanced"] = Field("shuffle", description="balanced: classes equally often")
    distill: Share = Field(0.0, description="share of the loss that comes from the teacher")
    match: float = Field(0.0, ge=0, description="weight of the teacher's features: what its last layer is given")
    norms: Literal["batch", "frozen", "adapted"] = Field(
        "batch",
        description="frozen: batch norms keep their statistics; adapted: under freeze they first take the training "
        "photos', as in the document's loop, where nothing stops them",
    )

    @model_validator(mode="after")
    def _whole_rounds(self) -> "Fit":
        if self.max_steps and self.max_steps % self.round_steps:
            raise ValueError(
                f"max_steps {self.max_steps} is no whole number of rounds: make it a multiple of {self.save_every}"
            )
        return self

    @property
    def round_steps(self) -> int:
        """Batches from one checkpoint to the next, where steps are counted."""
        return min(self.save_every, self.max_steps or self.save_every)

    @property
    def rounds(self) -> int:
        """How often the model is scored and kept: epochs, or rounds of steps."""
        return self.max_steps // self.round_steps if self.max_steps else self.epochs

    @property
    def learns_from_teacher(self) -> bool:
        """Whether any of the loss comes from a teacher."""
        return self.distill > 0 or self.match > 0


class Train(Fit):
    """`freeze` trains the last layer alone. `validation`: the share held out, by source.

    When the last layer trains alone, `copies` augmented views of each photo go through the other layers once, and
    the epochs take turns with them. `cache` never changes what is trained, only how often a photo is decoded.
    """

    freeze: bool = False
    copies: int = Field(4, ge=1, le=1000, description="augmented views of each photo, when the last layer trains alone")
    cache: int | None = Field(None, ge=0, description="megabytes of decoded photos in memory; half of what is free")
    validation: float = Field(0.2, gt=0, lt=1)
    precision: Literal["auto", "f32", "bf16"] = Field("auto", description="auto: bf16 where the CPU has it")
    seed: int = 0


class Prune(Fit):
    """What pruning removes, and the fine-tune after it.

    `unstructured` (the document's): `amount` is the share of weights set to zero, over all layers together; the
    fine-tune keeps the zeros. `layers`: `convolutions` are all but the down-sampling ones; `document` is the
    document's list for ResNet-18, batch norms of the first layers included.

    `channel`: `amount` is the share of channels taken out of every convolution, in `steps` equal steps with a
    fine-tune after each; widths are rounded to multiples of `round_to`, to the nearest and never to none. The
    result is the largest step that loses at most `gate.max_loss` and `most_flips` photos net (lost minus won)
    on the held-out photos.
    """

    method: Literal["unstructured", "channel"] = "unstructured"
    layers: Literal["convolutions", "document"] = "convolutions"
    amount: float = Field(0.45, ge=0, lt=1)
    steps: int = Field(3, ge=1, le=20)
    round_to: int = Field(16, ge=1, le=256)
    most_flips: int = Field(2, ge=0, description="photos lost minus photos won; of int8 against float, too")

    @model_validator(mode="after")
    def _layers_fit_method(self) -> "Prune":
        if self.method == "channel" and self.layers == "document":
            raise ValueError("layers: document is for method unstructured: leave layers out, or set method")
        return self


class Gate(Section):
    """What a run must reach to be packed: mean of the classes' accuracies, and points lost to its parent."""

    mean_accuracy: Share = 0.95
    max_loss: Share = 0.01


class Export(Section):
    """`int8: auto` quantises as much as keeps the gate and `prune.most_flips`; otherwise weights are stored as fp16.

    `opset`: of the graph, exactly. Below 18 torch's older exporter makes it, and below 13 there is no int8, whose
    scales by channel came with that. `input` and `output` are the tensors' names; serving does not look at them.
    """

    int8: Literal["auto", "never"] = "auto"
    calibration: int = Field(128, ge=1, description="photos for post-training quantisation")
    opset: int = Field(18, ge=9, le=30)
    input: Tensor = "input"
    output: Tensor = "logits"

    @model_validator(mode="after")
    def _two_names(self) -> "Export":
        if self.input == self.output:
            raise ValueError(f"input and output are both {self.input}: give two names")
        return self


class Recipe(Spec):
    """A whole recipe. Fields are documented on their sections.

    `aliases`: other names by which photos come, as folders or in tables -> the label that they are read as.
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
    def _sides_hold_the_crop(self) -> "Recipe":
        longest = max(self.input.height, self.input.width)
        if self.augment.sides and self.augment.sides[0] < longest:
            raise ValueError(f"augment.sides begins at {self.augment.sides[0]}: a crop of {longest} does not fit in")
        return self

    @model_validator(mode="after")
    def _drawings_fit_labels(self) -> "Recipe":
        strange = set(self.drawn) - set(self.labels)
        if strange:
            raise ValueError(f"drawn: {sorted(strange)} are no labels: legal are {list(self.labels)}")
        return self

    @model_validator(mode="after")
    def _aliases_are_of_labels(self) -> "Recipe":
        strange = set(self.aliases.values()) - set(self.labels)
        if strange:
            raise ValueError(f"aliases: {sorted(strange)} are no labels: legal are {list(self.labels)}")
        both = set(self.aliases) & set(self.labels)
        if both:
            raise ValueError(f"aliases: {sorted(both)} are labels themselves: leave them out")
        return self

    @model_validator(mode="after")
    def _backbone_takes_input(self) -> "Recipe":
        name, pool = self.backbone.name, self.backbone.pool
        seen = (self.input.channels, self.input.height // pool, self.input.width // pool)
        if seen != INPUTS.get(name, (3, *seen[1:])):
            wanted = "{} x {} x {}".format(*INPUTS[name]) if name in INPUTS else "3 channels"
            raise ValueError(f"{name} takes {wanted}: set input, or another backbone")
        return self


def read_recipe(name: str | Path) -> Recipe:
    """Read and validate a recipe by name or path.

    Raises:
        UserError: naming file, key, value and legal values.
    """
    path = _find(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error
    return validated(content, str(path))


def validated(content: Any, origin: str) -> Recipe:
    """Make a recipe of plain data.

    Raises:
        UserError: for each fault a line that names origin, key, value and legal values.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise UserError("\n".join(f"{origin}: {_explain(entry)}" for entry in error.errors())) from error


def from_saved(text: str) -> Recipe:
    """The recipe of a run's or a bundle's recipe.json.

    Raises:
        ValueError: it is not JSON, or not a valid recipe.
    """
    content = json.loads(text)
    if isinstance(content, dict) and content.get("backbone", {}).get("width") == 1:
        del content["backbone"]["width"]  # a key of former versions, which wrote its default into every file
    return Recipe.model_validate(content)


def override(recipe: Recipe, section: str, **values: Any) -> Recipe:
    """A recipe with the command line's changes to a section, validated again; None changes nothing.

    Raises:
        UserError: a change is not legal.
    """
    content = recipe.model_dump()
    content[section] |= {key: value for key, value in values.items() if value is not None}
    return validated(content, "command line")


def names() -> list[str]:
    """The recipes that lie in config/recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def _find(name: str | Path) -> Path:
    if Path(name).suffix in (".yaml", ".yml"):
        return Path(name)
    if str(name) not in names():
        near = difflib.get_close_matches(str(name), names(), 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"no recipe {name}: {hint}legal are {', '.join(names())}, or a path to a .yaml file")
    return FOLDER / f"{name}.yaml"


def _explain(entry: Any) -> str:
    key = ".".join(map(str, entry["loc"])) or "the recipe"
    if entry["type"] == "extra_forbidden":
        legal = _keys(entry["loc"][:-1])
        near = difflib.get_close_matches(str(entry["loc"][-1]), legal, 1)
        return f"{key}: unknown key; {f'did you mean {near[0]}? ' if near else ''}legal are {', '.join(legal)}"
    if entry["type"] == "missing":
        return f"{key}: missing"
    return f"{key}: {entry['input']!r:.60} given; {entry['msg'][0].lower()}{entry['msg'][1:]}"


def _keys(location: tuple[Any, ...]) -> list[str]:
    model: Any = Recipe
    for part in location:
        model = model.model_fields[part].annotation
    return sorted(model.model_fields)
