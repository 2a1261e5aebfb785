"""What the training loop asks of an objective."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jettag.data.jets import Jets, Table
from jettag.models.particle_transformer import ParticleTransformer

__all__ = ["Objective"]


class Objective(nn.Module):
    """A batch -> ``{"loss": ..., parts, "weight": ...}``.

    ``weight`` (K,) says what each of the K others is a mean over, in their order, so that a batch cut in pieces has
    the losses of the whole: sum(loss * weight) / sum(weight).
    """

    backbone: ParticleTransformer

    def prepare(self, table: Table, *, seed: int) -> None:
        """Fit what must be known before the first step, on the training jets; most objectives need nothing."""

    def draw(self, jets: Jets, generator: torch.Generator) -> Tensor | None:  # noqa: ARG002
        """What is random in the loss of a batch, one row a jet, on the CPU; None where nothing is.

        Drawn before a batch is cut, so that neither the number of pieces nor the device changes it. ``forward`` takes
        the rows of its piece as ``drawn``.
        """
        return None

    def alarm(self, losses: Mapping[str, float]) -> str | None:  # noqa: ARG002
        """What the person should be told of the validation losses, if anything."""
        return None
