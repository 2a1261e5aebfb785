"""What a run can be told: the schema of every recipe.

Learning rates, fractions and sizes carry their range here, so that a wrong recipe is refused before a file is read.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from jettag.config.adaptation import LAYERWISE_DECAY, AdaptationRecipe, Mode
from jettag.config.flavour import FlavourRecipe
from jettag.config.loading import Section, as_typed, read_yaml, validate
from jettag.config.measured import MeasuredRecipe
from jettag.config.objectives import (
    ClassificationRecipe,
    FinetuningObjective,
    Fraction,
    MaskedRecipe,
    PretrainingObjective,
)
from jettag.config.sampling import SamplingRecipe
from jettag.config.schemes import scheme
from jettag.config.shipped import find
from jettag.config.study import STUDIES, StudyRecipe, load_study
from jettag.errors import RecipeError, nearest

__all__ = [
    "RANGER",
    "BackboneRecipe",
    "DataRecipe",
    "FinetuneRecipe",
    "PretrainRecipe",
    "Recipe",
    "TrainingRecipe",
    "load_any_recipe",
    "load_recipe",
]

RANGER = "ranger"  # timm has its two halves, Lookahead and RAdam
USUAL = (RANGER, "adamw", "lion", "sgd")  # optimizers known without the seconds in which timm and torch load


class DataRecipe(Section):
    """Which jets, and how they become tensors."""

    card: str = "jetclass"
    features: str = "auto"  # the backbone's, else the richest of jetclass_full, _kinpid, _kin that the files give
    max_constituents: int = Field(128, ge=1, le=5000)
    max_jets: int | None = Field(None, ge=1)
    draw_seed: int | None = Field(None, ge=0, lt=2**31)  # max_jets drawn at random; None takes the first ones
    batch_size: int | Literal["auto"] = "auto"  # auto: 64 on a CPU, 512 on an accelerator
    # Constituents in a batch, padding counted; batches of long jets then have fewer jets than batch_size.
    max_tokens: int | None = Field(None, ge=1)
    prefetch: int = Field(2, ge=0, le=64)  # batches prepared ahead by threads; changes no number
    workers: int = Field(1, ge=1, le=64)  # threads that prepare them; changes no number
    val_fraction: Fraction = 0.1  # held out of --data where no --val is given
    sampling: SamplingRecipe | None = None  # of training; validation takes every jet

    @field_validator("batch_size", mode="before")
    @classmethod
    def _jets_or_auto(cls, value: object) -> object:
        if value != "auto" and not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
            msg = "expected a number of jets, or auto"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _the_longest_jet_fits(self) -> "DataRecipe":
        if self.max_tokens is not None and self.max_tokens < self.max_constituents:
            msg = f"max_tokens {self.max_tokens} is less than the {self.max_constituents} constituents of one jet"
            raise ValueError(msg)
        return self


class BackboneRecipe(Section):
    """The network that turns a jet into embeddings. ``settings`` overrides single numbers of the size."""

    name: Literal["particle_transformer"] = "particle_transformer"
    size: Literal["auto", "tiny", "small", "base", "large"] = "auto"
    settings: dict[str, Any] = Field(default_factory=dict)


class TrainingRecipe(Section):
    """How the loop runs. Steps are optimizer updates; the run ends at the first limit that is reached."""

    optimizer: str = "adamw"  # any name `timm.optim` knows, or ranger
    learning_rate: float = Field(1e-3, gt=0, le=10)
    head_rate_multiplier: float = Field(1.0, gt=0)  # learning rate of everything outside the backbone, relative
    layer_decay: float = Field(1.0, gt=0, le=1)  # of the rate from each backbone layer to the one below
    weight_decay: float = Field(0.01, ge=0)
    schedule: Literal["cosine", "one_cycle", "flat_decay", "constant"] = "cosine"
    warmup_fraction: float = Field(0.05, ge=0, lt=1)
    final_rate_fraction: float = Field(0.01, ge=0, le=1)
    epochs: float | None = Field(None, gt=0)
    max_steps: int | None = Field(None, ge=1)
    clip_gradient_norm: float | None = Field(1.0, gt=0)  # None leaves gradients as they are
    ema_decay: float | None = Field(0.999, gt=0, lt=1)
    # Pieces a batch is cut in where memory is short; data.batch_size stays the whole. The gradient is that of the whole
    # batch, negatives of contrastive learning too, but each piece is normalised by its own batch statistics, over all
    # processes.
    accumulate: int = Field(1, ge=1)
    # Of several processes: ddp keeps all parameters on each, fsdp deals them out (for networks too big for one device).
    parallel: Literal["ddp", "fsdp"] = "ddp"
    # auto: bf16 on an accelerator that has it, else fp32. fp64 is slow, and rounds so little that without dropout any
    # number of processes gives the same losses; what a frozen backbone has embedded once is kept in single precision.
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp64"] = "auto"
    # The blocks through torch.compile; the first steps wait for the compiler (RESULTS.md, Compilation).
    compile: bool = False
    log_every: int = Field(50, ge=1)
    val_every: int = Field(500, ge=1)
    patience: int | None = Field(None, ge=1)  # validations without a lower loss after which the run ends
    keep_checkpoints: int = Field(2, ge=1)

    @field_validator("optimizer", "schedule", mode="before")
    @classmethod
    def _as_papers_write_it(cls, name: object) -> object:
        return name.lower().replace("-", "_") if isinstance(name, str) else name

    @field_validator("optimizer")
    @classmethod
    def _known_optimizer(cls, name: str) -> str:
        if name in USUAL:
            return name
        from timm.optim import list_optimizers

        known = [*list_optimizers(), RANGER]
        if name not in known:
            msg = f"no optimizer of timm; {nearest(name, known)}"
            raise ValueError(msg)
        return name


class Recipe(Section):
    """What every run shares."""

    description: str = ""
    measured: MeasuredRecipe | None = Field(None, exclude=True)  # of the recipe as shipped, not of what it became
    seed: int = Field(0, ge=0, lt=2**31)
    data: DataRecipe = DataRecipe()
    backbone: BackboneRecipe = BackboneRecipe()
    training: TrainingRecipe = TrainingRecipe(epochs=10)


class ProbeRecipe(Section):
    """A logistic regression on the jet embeddings at every validation: what the representation has learnt so far."""

    classes: list[str] = Field(min_length=2)  # that it tells apart; its labels never reach the backbone
    jets: int = Field(4000, ge=100)  # half fits it, half judges it


class PretrainRecipe(Recipe):
    """`jettag pretrain`: labels are read by a supervised objective and by the probe, by nothing else."""

    command: Literal["pretrain"] = "pretrain"
    classes: list[str] = Field(default_factory=list)  # of a supervised objective; the others take none
    probe: ProbeRecipe | None = None
    objective: PretrainingObjective = MaskedRecipe()

    @model_validator(mode="after")
    def _classes_where_they_are_used(self) -> "PretrainRecipe":
        if (self.objective.name == "classification") != bool(self.classes):
            msg = f"objective {self.objective.name} takes {'at least two' if not self.classes else 'no'} classes"
            raise ValueError(msg)
        if self.probe is not None and self.objective.name == "tokenizer":
            msg = "a tokenizer has no backbone to probe"
            raise ValueError(msg)
        return self


class FinetuneRecipe(Recipe):
    """`jettag finetune`: a head on a backbone, pre-trained or new."""

    command: Literal["finetune"] = "finetune"
    mode: Mode = "full"
    adaptation: AdaptationRecipe = AdaptationRecipe()
    classes: list[str] = Field(default_factory=list)  # of flavour tagging those of its label scheme, or some of them
    # Hidden layers of the head; auto: one as wide as the embedding in mode head, none in the others.
    head_hidden: tuple[Annotated[int, Field(ge=1)], ...] | Literal["auto"] = "auto"
    objective: FinetuningObjective = ClassificationRecipe()
    # What chooses the best checkpoint and what patience waits for: the validation loss, or, where the classes are two
    # mixed samples, the first of them with more signal, the label-free ARGOS (arXiv:2511.14832).
    selection: Literal["loss", "argos"] = "loss"

    @model_validator(mode="after")
    def _argos_of_two_samples(self) -> "FinetuneRecipe":
        if self.selection == "argos" and len(self.classes) != 2:
            msg = f"selection argos compares two samples, not {len(self.classes)} classes"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _layers_of_their_own_rate(self) -> "FinetuneRecipe":
        if self.mode == "layerwise" and self.training.layer_decay == 1:  # a default that another key decides
            training = self.training.model_copy(update={"layer_decay": LAYERWISE_DECAY})
            object.__setattr__(self, "training", training)
        return self

    @field_validator("classes")
    @classmethod
    def _distinct(cls, names: list[str]) -> list[str]:
        if len(set(names)) != len(names):
            msg = "a class stands twice"
            raise ValueError(msg)
        return names

    @model_validator(mode="after")
    def _classes_of_the_scheme(self) -> "FinetuneRecipe":
        objective = self.objective
        if isinstance(objective, FlavourRecipe):
            known = scheme(objective.scheme).classes
            if not self.classes:
                object.__setattr__(self, "classes", list(known))  # a default that another key decides
            for name in self.classes:
                if name not in known:
                    msg = f"class {name} is not in label scheme {objective.scheme} ({', '.join(known)})"
                    raise ValueError(msg)
            if self.mode in ("probe", "lpft"):
                others = "use head, staged, layerwise, lora or full"
                msg = f"mode {self.mode} trains one linear layer, flavour has more; {others}"
                raise ValueError(msg)
        if len(self.classes) < 2:
            msg = f"expected at least two classes, found {', '.join(self.classes) or 'none'}"
            raise ValueError(msg)
        return self


RecipeType = TypeVar("RecipeType", bound=Recipe)
RECIPES: dict[str, type[Recipe]] = {"pretrain": PretrainRecipe, "finetune": FinetuneRecipe}


def load_recipe(
    name: str,
    schema: type[RecipeType],
    overrides: Sequence[str] = (),
    *,
    card: str | None = None,
    options: Mapping[str, str] | None = None,
) -> RecipeType:
    """A recipe by name or path, with ``key.sub=value`` overrides and the card of the command line.

    Args:
        name: of the recipe.
        schema: of the command's recipes.
        overrides: of ``--set``.
        card: of ``--card``.
        options: overrides by other options, as these were typed.

    Raises:
        RecipeError: no such recipe, one of another command, or mistakes in it (all at once).
    """
    path = find("recipes", name)
    values = read_yaml(path)
    expected = schema.model_fields["command"].default
    if values.get("command", expected) != expected:
        raise RecipeError(f"a recipe of `jettag {values['command']}`", where=path, do=f"this is `jettag {expected}`")
    changes = as_typed(overrides) | dict(options or {}) | ({f"--card {card}": f"data.card={card}"} if card else {})
    return validate(schema, values, where=path, changes=changes)


def load_any_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe | StudyRecipe:
    """A recipe of whichever command it names.

    Raises:
        RecipeError: as `load_recipe`, or its command is unknown.
    """
    path = find("recipes", name)
    command = str(read_yaml(path).get("command"))
    if command in STUDIES:
        return load_study(name, overrides)
    if command not in RECIPES:
        raise RecipeError(f"command: {command!r} has no recipes", where=path, do=nearest(command, [*RECIPES, *STUDIES]))
    return load_recipe(name, RECIPES[command], overrides)
