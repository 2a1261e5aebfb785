"""What a run can be trained for: the ``objective`` of every recipe."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from jettag.config.loading import Section

__all__ = ["ClassificationRecipe", "DecoderRecipe", "Fraction", "KmeansTarget", "MaskedRecipe"]

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


class ClassificationRecipe(Section):
    """Cross entropy over jet classes."""

    name: Literal["classification"] = "classification"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    balance_classes: bool = True  # weigh classes so that each counts the same
