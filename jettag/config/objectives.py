"""What a run can be trained for: the ``objective`` of every recipe."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from jettag.config.flavour import FlavourRecipe
from jettag.config.loading import Section
from jettag.config.observables import Observable, columns_behind

__all__ = [
    "AugmentationRecipe",
    "ClassificationRecipe",
    "ContrastiveRecipe",
    "DecoderRecipe",
    "FinetuningObjective",
    "FlowTarget",
    "Fraction",
    "IdentityRecipe",
    "JointRecipe",
    "KmeansTarget",
    "MaskPattern",
    "MaskedRecipe",
    "ObservablesRecipe",
    "PretrainingObjective",
    "RegressionTarget",
    "SetFlowTarget",
    "TokenizerRecipe",
    "VqvaeTarget",
]

Fraction = Annotated[float, Field(gt=0, lt=1)]
MaskPattern = Literal["random", "pt_fraction", "pt_weighted", "hardest", "nearest", "radius"]


class KmeansTarget(Section):
    """Each hidden constituent's token: the nearest of ``codes`` k-means centres in standardised feature space."""

    name: Literal["kmeans"] = "kmeans"
    codes: int = Field(512, ge=2, le=65536)
    fit_constituents: int = Field(200_000, ge=100)  # sample on which the centres are fitted


class _ContinuousTarget(Section):
    """pT and direction of each hidden constituent, standardised; impact parameters of charged ones beside them."""

    impact: bool = True  # impact parameters too, where the features have them
    fit_constituents: int = Field(200_000, ge=100)  # sample that gives mean and width


class RegressionTarget(_ContinuousTarget):
    """The quantities themselves, by absolute error or smooth L1 (quadratic below one standard deviation)."""

    name: Literal["regression"] = "regression"
    loss: Literal["l1", "smooth_l1"] = "l1"


class FlowTarget(_ContinuousTarget):
    """Conditional flow matching of each hidden constituent by itself."""

    name: Literal["flow"] = "flow"
    width: int = Field(128, ge=8)  # of the velocity network
    layers: int = Field(3, ge=1)  # hidden layers in it


class SetFlowTarget(_ContinuousTarget):
    """Flow matching of all hidden constituents of a jet together."""

    name: Literal["setflow"] = "setflow"
    identity: bool = True  # flows too, where the features have it


class VqvaeTarget(Section):
    """The codes of a trained tokenizer."""

    name: Literal["vqvae"] = "vqvae"
    tokenizer: str = "runs/tokenizer"  # a run of `jettag pretrain tokenizer`, or a checkpoint of one


MaskTarget = Annotated[
    KmeansTarget | RegressionTarget | FlowTarget | SetFlowTarget | VqvaeTarget, Field(discriminator="name")
]


class IdentityRecipe(Section):
    """The identity of each hidden constituent beside its target: cross entropy over hadrons, leptons, photons."""

    weight: float = Field(0.3, gt=0)  # of its loss
    label_smoothing: float = Field(0.1, ge=0, lt=1)


class ObservablesRecipe(Section):
    """Numbers of the whole jet, told from what is visible of it: they need its jet columns and no label."""

    weight: float = Field(1.0, gt=0)  # of their loss
    names: tuple[Observable, ...] = Field(
        ("mass", "sdmass", "tau21", "tau32", "tau43", "nparticles", "c2", "d2", "displaced"), min_length=1
    )
    hidden: int = Field(64, ge=1)  # width of the layer between the jet embedding and the numbers

    @property
    def columns(self) -> tuple[str, ...]:
        """Jet columns to read, in the order in which batches carry them."""
        return columns_behind(self.names)


class DecoderRecipe(Section):
    """The light network that fills the hidden slots."""

    dim: int = Field(64, ge=8)
    layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "DecoderRecipe":
        if self.dim % self.heads:
            msg = f"{self.heads} heads cannot share a width of {self.dim}"
            raise ValueError(msg)
        return self


class MaskedRecipe(Section):
    """Masked particle modelling (arXiv:2401.13537, arXiv:2409.12589)."""

    name: Literal["masked"] = "masked"
    mask_fraction: Fraction = 0.3
    mask_pattern: MaskPattern = "random"
    mask_radius: float = Field(0.1, gt=0)  # in (eta, phi), of the pattern `radius`
    target: MaskTarget = KmeansTarget()
    identity: IdentityRecipe | None = None
    observables: ObservablesRecipe | None = None
    decoder: DecoderRecipe = DecoderRecipe()

    @model_validator(mode="after")
    def _a_set_has_its_identities(self) -> "MaskedRecipe":
        if isinstance(self.target, SetFlowTarget) and self.identity is not None:
            msg = "setflow has identities in its set; leave identity null and choose with target.identity"
            raise ValueError(msg)
        return self


class AugmentationRecipe(Section):
    """What a contrastive view may differ in (arXiv:2108.04253); each can be turned off."""

    # Largest pseudorapidity a jet is boosted to along the beam, for each view anew; null leaves it. The published
    # network sees (pT, deta, dphi) and no energy, so it cannot find a jet's other view by the jet's pseudorapidity.
    boost: float | None = Field(2.0, gt=0)
    rotation: bool = True  # about the jet axis
    translation: float | None = Field(1.0, gt=0)  # largest shift over the jet's extent; null turns it off
    smearing: float | None = Field(0.1, gt=0)  # GeV, the scale of soft emissions; null turns it off
    splitting: int = Field(2, ge=0, le=4)  # rounds of collinear splitting; 0 turns it off
    # Not of the paper: each view lacks constituents of its own, each with this probability; null keeps all.
    dropping: Fraction | None = None


class ProjectionRecipe(Section):
    """The network between the jet embedding and the contrastive loss; thrown away afterwards."""

    hidden: int = Field(128, ge=1)
    dim: int = Field(64, ge=2)


class ContrastiveRecipe(Section):
    """Contrastive learning, JetCLR (arXiv:2108.04253)."""

    name: Literal["contrastive"] = "contrastive"
    temperature: float = Field(0.1, gt=0, le=10)
    augmentations: AugmentationRecipe = AugmentationRecipe()
    projection: ProjectionRecipe = ProjectionRecipe()


class JointRecipe(Section):
    """Masked modelling and contrastive learning on one pass of the backbone."""

    name: Literal["joint"] = "joint"
    masked_weight: float = Field(1.0, gt=0)
    contrastive_weight: float = Field(1.0, gt=0)
    masked: MaskedRecipe = MaskedRecipe()
    contrastive: ContrastiveRecipe = ContrastiveRecipe()


class TokenizerRecipe(Section):
    """A VQ-VAE over the constituents of a jet, whose codes are a target of masked modelling."""

    name: Literal["tokenizer"] = "tokenizer"
    codes: int = Field(512, ge=2, le=65536)
    latent: int = Field(16, ge=1)  # width of a code
    width: int = Field(64, ge=8)  # of both transformers
    layers: int = Field(2, ge=1)  # of each
    heads: int = Field(4, ge=1)
    cosine: bool = False  # latents and codes of length one
    decay: float = Field(0.95, gt=0, lt=1)  # of the running means that the codes are; 0.99 let most codes die
    commitment: float = Field(0.25, gt=0)  # weight of the distance of latents from their codes
    identity_weight: float = Field(0.3, gt=0)
    impact: bool = True
    fit_constituents: int = Field(200_000, ge=100)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "TokenizerRecipe":
        if self.width % self.heads:
            msg = f"{self.heads} heads cannot share a width of {self.width}"
            raise ValueError(msg)
        return self


class ClassificationRecipe(Section):
    """Cross entropy over jet classes."""

    name: Literal["classification"] = "classification"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    balance_classes: bool = True  # weigh classes so that each counts the same


def named(value: Any) -> str:
    """The ``name`` by which a choice is told from its alternatives; masked modelling where none stands."""
    name = value.get("name", "masked") if isinstance(value, dict) else getattr(value, "name", "masked")
    return str(name)


# By name, so that a mistake is told of the objective that was meant.
PretrainingObjective = Annotated[
    Annotated[MaskedRecipe, Tag("masked")]
    | Annotated[ContrastiveRecipe, Tag("contrastive")]
    | Annotated[JointRecipe, Tag("joint")]
    | Annotated[ClassificationRecipe, Tag("classification")]
    | Annotated[TokenizerRecipe, Tag("tokenizer")],
    Discriminator(named),
]


def _task(value: Any) -> str:
    name = value.get("name", "classification") if isinstance(value, dict) else getattr(value, "name", "classification")
    return str(name)


FinetuningObjective = Annotated[
    Annotated[ClassificationRecipe, Tag("classification")] | Annotated[FlavourRecipe, Tag("flavour")],
    Discriminator(_task),
]
