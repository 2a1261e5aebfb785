"""How a fine-tuning changes the backbone it starts from: the modes, and the settings of each."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from jettag.config.loading import Section
from jettag.config.objectives import Fraction
from jettag.errors import nearest

__all__ = [
    "FROZEN_FIRST",
    "LAYERWISE_DECAY",
    "MODES",
    "AdaptationRecipe",
    "LoraRecipe",
    "LpftRecipe",
    "Mode",
    "StagedRecipe",
    "backbone_rate",
    "suggest_mode",
]

# What each mode trains. All but `full` adapt a backbone and make no sense without one.
MODES: dict[str, str] = {
    "full": "everything is trained",
    "head": "the backbone is frozen, a head is trained",
    "probe": "the backbone is frozen, one linear layer is trained",
    "attentive": "the backbone is frozen, class attention over its constituents is trained",
    "lpft": "one linear layer on the frozen backbone first, then everything from there (arXiv:2202.10054)",
    "staged": "the head on the frozen backbone first, then the backbone's learning rate climbs to the head's",
    "layerwise": "everything is trained, each backbone layer slower than the one above it (arXiv:2106.08254)",
    "lora": "low-rank updates of the backbone's matrices, its norms and the head are trained (arXiv:2106.09685)",
}

FROZEN_FIRST = ("head", "probe", "lpft", "staged")  # modes whose head begins with the frozen backbone's embeddings

# Of `training.layer_decay` in mode layerwise, where the recipe has none; masked autoencoders' own (arXiv:2111.06377).
LAYERWISE_DECAY = 0.75


def suggest_mode(name: str) -> str:
    """What to do about an unknown mode: the nearest, and all."""
    suggestion = nearest(name, MODES)
    return suggestion if suggestion.startswith("known") else f"{suggestion} known: {', '.join(MODES)}"


def _known(name: object) -> object:
    if name not in MODES:
        msg = f"no mode; {suggest_mode(str(name))}"
        raise ValueError(msg)
    return name


Mode = Annotated[
    Literal["full", "head", "probe", "attentive", "lpft", "staged", "layerwise", "lora"],
    BeforeValidator(_known),
]


class LpftRecipe(Section):
    """Mode ``lpft``."""

    probe_share: Fraction = 0.3  # of the run; the schedule then begins anew


class StagedRecipe(Section):
    """Mode ``staged``."""

    frozen_share: Fraction = 0.2  # of the run
    ramp_share: float = Field(0.2, ge=0, le=1)  # of the run; the backbone's rate climbs linearly meanwhile


class LoraRecipe(Section):
    """Mode ``lora``: W + alpha / rank * B A, with B zero at the start."""

    rank: int = Field(8, ge=1)
    alpha: float = Field(16.0, gt=0)
    dropout: float = Field(0.05, ge=0, lt=1)  # of the inputs of A
    targets: tuple[Literal["q", "k", "v", "out", "fc1", "fc2"], ...] = Field(("q", "k", "v", "out"), min_length=1)


LEAST_RATE, MANY_LABELS = 0.1, 10_000


def backbone_rate(labels: int) -> float:
    """Learning rate of a pre-trained backbone, relative to the head's, for so many labelled jets in training.

    A tenth up to a thousand, where results scatter more otherwise, and from there on in proportion to their number:
    at a tenth a backbone learns less from ten thousand than one from scratch (RESULTS.md). The published fine-tunings
    take 0.02 to 0.2 (arXiv:2202.03772, OmniLearned), in longer runs.
    """
    return min(max(labels / MANY_LABELS, LEAST_RATE), 1.0)


class AdaptationRecipe(Section):
    """Settings of the modes; those of other modes than the run's are not read."""

    # A backbone of other features: match them by name, new ones at zero weight, instead of refusing it.
    adapt_features: bool = False
    # Blocks, from the last one, whose means over constituents the head reads beside the jet embedding, as in DINO's
    # linear probe; null: as the backbone was pre-trained. Attentive heads read the constituents of the last.
    summary_blocks: int | None = Field(None, ge=1)
    # Where the backbone is frozen, embed every jet once and keep the embeddings in memory.
    precompute: bool = True
    # Where modes probe and lpft begin: fitted, at the logistic regression of the embeddings where these are kept in
    # memory, which the steps that follow leave nearly as it is; or random, at random weights.
    probe_start: Literal["fitted", "random"] = "fitted"
    # Learning rate of a linear probe from random weights, relative to training.learning_rate. One layer wants more,
    # the more the shorter the run, and less where few labels are seen often. Validation losses at 1, 3, 10, 30 and 100
    # times 1e-3, means of three seeds (tiny backbone after 151 steps of masked modelling, tops against QCD, 1,500
    # validation jets):
    #     80 steps, 1,000 labels    0.467  0.325  0.294  0.272  0.266
    #    160 steps, 1,000 labels    0.340  0.304  0.276  0.262  0.262
    #    500 steps,   100 labels    0.317  0.301  0.318  0.365  0.454
    # The hidden layer of mode head needs no such factor: 0.280 to 0.261, 0.270 to 0.260, and 0.331 to 0.968 of the
    # same runs; training.head_rate_multiplier of 3 pays where labels are many and steps few.
    probe_rate_multiplier: float = Field(30.0, gt=0)
    # Learning rate of a pre-trained backbone in modes full, lpft, staged and layerwise, relative to the head's; auto:
    # as `backbone_rate` has it.
    backbone_rate_multiplier: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = "auto"
    lpft: LpftRecipe = LpftRecipe()
    staged: StagedRecipe = StagedRecipe()
    lora: LoraRecipe = LoraRecipe()
