"""From the objective of a recipe to the module that is trained."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jettag.config.objectives import (
    ClassificationRecipe,
    ContrastiveRecipe,
    FlowTarget,
    JointRecipe,
    MaskedRecipe,
    PretrainingObjective,
    RegressionTarget,
    SetFlowTarget,
)
from jettag.config.objectives import KmeansTarget as KmeansRecipe
from jettag.models.particle_transformer import ParticleTransformer
from jettag.objectives.classification import Classification
from jettag.objectives.contrastive import Contrastive
from jettag.objectives.decoders import SetDecoder, SlotDecoder
from jettag.objectives.joint import Joint
from jettag.objectives.masked import MaskedModelling
from jettag.objectives.objective import Objective
from jettag.objectives.quantities import has_identity
from jettag.objectives.targets import Flow, IdentityHead, KmeansTarget, Regression, SetFlow, Target

__all__ = ["JetsAre", "build_masked", "build_objective"]


@dataclass(frozen=True)
class JetsAre:
    """What an objective must know of the jets it will see.

    Attributes:
        feature_names: columns of ``Jets.features``.
        max_constituents: of a jet.
        class_names: of ``Jets.label``; empty without labels.
        class_weight: of each class in a loss.
    """

    feature_names: tuple[str, ...]
    max_constituents: int
    class_names: tuple[str, ...] = ()
    class_weight: tuple[float, ...] = ()


def _kmeans(recipe: KmeansRecipe, names: tuple[str, ...], width: int) -> Target:
    return KmeansTarget(names, width, num_codes=recipe.codes, fit_constituents=recipe.fit_constituents)


def _regression(recipe: RegressionTarget, names: tuple[str, ...], width: int) -> Target:
    smooth = recipe.loss == "smooth_l1"
    return Regression(names, width, impact=recipe.impact, smooth=smooth, fit_constituents=recipe.fit_constituents)


def _flow(recipe: FlowTarget, names: tuple[str, ...], width: int) -> Target:
    return Flow(
        names,
        width,
        impact=recipe.impact,
        hidden_width=recipe.width,
        layers=recipe.layers,
        fit_constituents=recipe.fit_constituents,
    )


def _setflow(recipe: SetFlowTarget, names: tuple[str, ...], width: int) -> Target:
    return SetFlow(
        names, width, impact=recipe.impact, identity=recipe.identity, fit_constituents=recipe.fit_constituents
    )


TARGETS: dict[str, Callable[[Any, tuple[str, ...], int], Target]] = {
    "kmeans": _kmeans,
    "regression": _regression,
    "flow": _flow,
    "setflow": _setflow,
}


def build_masked(recipe: MaskedRecipe, backbone: ParticleTransformer, jets: JetsAre) -> MaskedModelling:
    """Masked modelling on ``backbone``; identities are predicted where the recipe asks and the features tell."""
    wanted, names = recipe.decoder, jets.feature_names
    sizes = {"width": wanted.dim, "layers": wanted.layers, "heads": wanted.heads}
    target = TARGETS[recipe.target.name](recipe.target, names, wanted.dim)
    identity = None
    if recipe.identity is not None and has_identity(names):
        identity = IdentityHead(names, wanted.dim, smoothing=recipe.identity.label_smoothing)
    return MaskedModelling(
        backbone,
        target,
        SetDecoder(backbone.dim, **sizes)
        if isinstance(target, SetFlow)
        else SlotDecoder(backbone.dim, max_rank=jets.max_constituents, **sizes),
        mask_fraction=recipe.mask_fraction,
        mask_pattern=recipe.mask_pattern,
        mask_radius=recipe.mask_radius,
        identity=identity,
        identity_weight=recipe.identity.weight if recipe.identity else 0.0,
    )


def _contrastive(recipe: ContrastiveRecipe, backbone: ParticleTransformer, jets: JetsAre) -> Contrastive:
    return Contrastive(backbone, recipe, jets.feature_names, jets.max_constituents)


def _joint(recipe: JointRecipe, backbone: ParticleTransformer, jets: JetsAre) -> Objective:
    return Joint(
        build_masked(recipe.masked, backbone, jets),
        _contrastive(recipe.contrastive, backbone, jets),
        masked_weight=recipe.masked_weight,
        contrastive_weight=recipe.contrastive_weight,
    )


def _classification(recipe: ClassificationRecipe, backbone: ParticleTransformer, jets: JetsAre) -> Objective:
    return Classification(
        backbone,
        len(jets.class_names),
        class_weight=jets.class_weight if recipe.balance_classes else None,
        label_smoothing=recipe.label_smoothing,
    )


PRETRAINING: dict[str, Callable[[Any, ParticleTransformer, JetsAre], Objective]] = {
    "masked": build_masked,
    "contrastive": _contrastive,
    "joint": _joint,
    "classification": _classification,
}


def build_objective(recipe: PretrainingObjective, backbone: ParticleTransformer, jets: JetsAre) -> Objective:
    """The objective a pre-training recipe names, on ``backbone``."""
    return PRETRAINING[recipe.name](recipe, backbone, jets)
