"""From the objective of a recipe to the module that is trained."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jettag.config.objectives import ContrastiveRecipe, MaskedRecipe, PretrainingObjective
from jettag.models.particle_transformer import ParticleTransformer
from jettag.objectives.contrastive import Contrastive
from jettag.objectives.masked import MaskedModelling
from jettag.objectives.objective import Objective

__all__ = ["JetsAre", "build_objective"]


@dataclass(frozen=True)
class JetsAre:
    """What an objective must know of the jets it will see.

    Attributes:
        feature_names: columns of ``Jets.features``.
        max_constituents: of a jet.
        class_names: of ``Jets.label``; empty without labels.
    """

    feature_names: tuple[str, ...]
    max_constituents: int
    class_names: tuple[str, ...] = ()


def _masked(recipe: MaskedRecipe, backbone: ParticleTransformer, jets: JetsAre) -> Objective:
    return MaskedModelling(
        backbone,
        jets.feature_names,
        num_codes=recipe.target.codes,
        fit_constituents=recipe.target.fit_constituents,
        mask_fraction=recipe.mask_fraction,
        decoder_dim=recipe.decoder.dim,
        decoder_layers=recipe.decoder.layers,
        decoder_heads=recipe.decoder.heads,
        max_constituents=jets.max_constituents,
    )


def _contrastive(recipe: ContrastiveRecipe, backbone: ParticleTransformer, jets: JetsAre) -> Objective:
    return Contrastive(backbone, recipe, jets.feature_names, jets.max_constituents)


PRETRAINING: dict[str, Callable[[Any, ParticleTransformer, JetsAre], Objective]] = {
    "masked": _masked,
    "contrastive": _contrastive,
}


def build_objective(recipe: PretrainingObjective, backbone: ParticleTransformer, jets: JetsAre) -> Objective:
    """The objective a pre-training recipe names, on ``backbone``."""
    return PRETRAINING[recipe.name](recipe, backbone, jets)
