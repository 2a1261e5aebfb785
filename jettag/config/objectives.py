"""What a run can be trained for: the ``objective`` of every recipe."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from jettag.config.loading import Section

__all__ = [
    "AugmentationRecipe",
    "ClassificationRecipe",
    "ContrastiveRecipe",
    "DecoderRecipe",
    "Fraction",
    "KmeansTarget",
    "MaskedRecipe",
    "PretrainingObjective",
]

Fraction = Annotated[float, Field(gt=0, lt=1)]


class KmeansTarget(Section):
    """Each hidden constituent's token: the nearest of ``codes`` k-means centres in standardised feature space."""

    name: Literal["kmeans"] = "kmeans"
    codes: int = Field(512, ge=2, le=65536)
    fit_constituents: int = Field(200_000, ge=100)  # sample on which the centres are fitted


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
    target: KmeansTarget = KmeansTarget()
    decoder: DecoderRecipe = DecoderRecipe()


class AugmentationRecipe(Section):
    """What a contrastive view may differ in (arXiv:2108.04253); each can be turned off."""

    rotation: bool = True  # about the jet axis
    translation: float | None = Field(1.0, gt=0)  # largest shift over the jet's extent; null turns it off
    smearing: float | None = Field(0.1, gt=0)  # GeV, the scale of soft emissions; null turns it off
    splitting: int = Field(2, ge=0, le=4)  # rounds of collinear splitting; 0 turns it off


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
    Annotated[MaskedRecipe, Tag("masked")] | Annotated[ContrastiveRecipe, Tag("contrastive")], Discriminator(named)
]
