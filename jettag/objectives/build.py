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
    TokenizerRecipe,
)
from jettag.config.objectives import KmeansTarget as KmeansRecipe
from jettag.config.objectives import VqvaeTarget as VqvaeRecipe
from jettag.errors import RecipeError
from jettag.models.particle_transformer import ParticleTransformer
from jettag.objectives.classification import Classification
from jettag.objectives.contrastive import Contrastive
from jettag.objectives.decoders import SetDecoder, SlotDecoder
from jettag.objectives.joint import Joint
from jettag.objectives.masked import MaskedModelling
from jettag.objectives.objective import Objective
from jettag.objectives.observables import Observables
from jettag.objectives.quantities import has_identity
from jettag.objectives.targets import Flow, IdentityHead, KmeansTarget, Regression, SetFlow, Target, VqvaeTarget
from jettag.objectives.tokenizer import Tokenizer, TokenizerTraining

__all__ = ["JetsAre", "build_masked", "build_objective", "build_tokenizer"]


@dataclass(frozen=True)
class JetsAre:
    """What an objective must know of the jets it will see.

    Attributes:
        feature_names: columns of ``Jets.features``.
        max_constituents: of a jet.
        class_names: of ``Jets.label``; empty without labels.
        class_weight: of each class in a loss.
        tokenizer: that names their constituents, and its SHA-256, where the target is its codes.
    """

    feature_names: tuple[str, ...]
    max_constituents: int
    class_names: tuple[str, ...] = ()
    class_weight: tuple[float, ...] = ()
    tokenizer: tuple[Tokenizer, str] | None = None


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


def _vqvae(jets: JetsAre, width: int) -> Target:
    if jets.tokenizer is None:
        raise RecipeError(
            "objective.target.tokenizer: no tokenizer given", do="name a run of jettag pretrain tokenizer"
        )
    return VqvaeTarget(jets.tokenizer[0], width, sha256=jets.tokenizer[1])


TARGETS: dict[str, Callable[[Any, tuple[str, ...], int], Target]] = {
    "kmeans": _kmeans,
    "regression": _regression,
    "flow": _flow,
    "setflow": _setflow,
}


def build_masked(recipe: MaskedRecipe, backbone: ParticleTransformer, jets: JetsAre) -> MaskedModelling:
    """Masked modelling on ``backbone``; identities are predicted where the recipe asks and the features tell."""
    wanted, names, asked = recipe.decoder, jets.feature_names, recipe.observables
    sizes = {"width": wanted.dim, "layers": wanted.layers, "heads": wanted.heads}
    if isinstance(recipe.target, VqvaeRecipe):
        target: Target = _vqvae(jets, wanted.dim)
    else:
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
        observables=Observables(asked.names, backbone.dim, asked.hidden, names) if asked else None,
        observables_weight=asked.weight if asked else 0.0,
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


def build_tokenizer(recipe: TokenizerRecipe, jets: JetsAre) -> TokenizerTraining:
    """The training of a tokenizer, which has no backbone."""
    net = Tokenizer(
        jets.feature_names,
        codes=recipe.codes,
        latent=recipe.latent,
        width=recipe.width,
        layers=recipe.layers,
        heads=recipe.heads,
        cosine=recipe.cosine,
        decay=recipe.decay,
        impact=recipe.impact,
    )
    return TokenizerTraining(
        net,
        commitment=recipe.commitment,
        identity_weight=recipe.identity_weight,
        fit_constituents=recipe.fit_constituents,
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
