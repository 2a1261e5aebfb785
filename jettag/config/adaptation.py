"""How a fine-tuning changes the backbone it starts from: the modes, and the settings of each."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from jettag.config.loading import Section
from jettag.config.objectives import Fraction
from jettag.errors import nearest

__all__ = ["MODES", "AdaptationRecipe", "LoraRecipe", "LpftRecipe", "Mode", "StagedRecipe"]

# What each mode trains. All but `full` adapt a backbone and make no sense without one.
MODES: dict[str, str] = {
    "full": "everything is trained",
    "head": "the backbone is frozen, a head is trained",
    "probe": "the backbone is frozen, one linear layer is trained",
    "attentive": "the backbone is frozen, class attention over its constituents is trained",
    "lpft": "one linear layer on the frozen backbone first, then everything from there (arXiv:2202.10054)",
    "staged": "the head on the frozen backbone first, then the backbone's learning rate climbs to the head's",
    "lora": "low-rank updates of the backbone's matrices, its norms and the head are trained (arXiv:2106.09685)",
}


def _known(name: object) -> object:
    if name not in MODES:
        suggestion = nearest(str(name), MODES)
        listed = "" if suggestion.startswith("known") else f" known: {', '.join(MODES)}"
        msg = f"no mode; {suggestion}{listed}"
        raise ValueError(msg)
    return name


Mode = Annotated[
    Literal["full", "head", "probe", "attentive", "lpft", "staged", "lora"],
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


class AdaptationRecipe(Section):
    """Settings of the modes; those of other modes than the run's are not read."""

    # A backbone of other features: match them by name, new ones at zero weight, instead of refusing it.
    adapt_features: bool = False
    # Where the backbone is frozen, embed every jet once and keep the embeddings in memory.
    precompute: bool = True
    # Learning rate of a linear probe, alone or first in lpft, relative to training.learning_rate. One layer wants more:
    # 320 steps with 1,000 jets at 1, 10, 30, 100 and 300 times 1e-3 ended at validation losses of 0.501, 0.435, 0.403,
    # 0.374 and 0.359 (a quickstart backbone, 1,000 validation jets).
    probe_rate_multiplier: float = Field(100.0, gt=0)
    lpft: LpftRecipe = LpftRecipe()
    staged: StagedRecipe = StagedRecipe()
    lora: LoraRecipe = LoraRecipe()
