"""What the training loop asks of an objective."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from jettag.data.jets import Jets, Table
from jettag.models.particle_transformer import ParticleTransformer
from jettag.objectives.chance import Chance
from jettag.objectives.phases import ALL_AT_ONCE, Phases

__all__ = ["Objective"]


class Objective(nn.Module):
    """A batch -> ``{"loss": ..., parts, "weight": ...}``.

    ``weight`` (K,) says what each of the K others is a mean over, in their order, so that a batch cut in pieces has
    the losses of the whole: sum(loss * weight) / sum(weight).
    """

    backbone: ParticleTransformer  # of all but the tokenizer's
    phases: Phases = ALL_AT_ONCE
    compares = False  # whether a jet's loss depends on the other jets of its batch, as `compare` has it
    weighs_jets: bool = False  # whether the loss of a jet is multiplied by its weight
    draws_from: tuple[str, ...] = ()  # columns of constituents that `draw` reads, besides the mask

    @property
    def is_frozen(self) -> bool:
        """Whether the backbone is frozen at present; only what can be fine-tuned ever freezes it."""
        return False

    def enter(self, progress: float) -> bool:  # noqa: ARG002
        """Do what the phase of the run at ``progress`` asks for; True where that changed what is trained."""
        return False

    def trained(self) -> set[str]:
        """Names of the parameters that are trained at some time of the run."""
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    def saved_settings(self) -> dict[str, Any]:
        """What a checkpoint must say, besides the backbone's settings, to be read again."""
        return {"head_hidden": []}

    def settings(self) -> dict[str, Any]:
        """What a checkpoint must say to build the network again; plain JSON."""
        return {"backbone": self.backbone.settings()}

    def prepare(self, table: Table, *, seed: int) -> None:
        """Fit what must be known before the first step, on the training jets; most objectives need nothing."""

    def draw(self, jets: Jets, chance: Chance) -> Tensor | None:  # noqa: ARG002
        """What is random in the loss of a batch, one row a jet, on the CPU; None where nothing is.

        Drawn before a batch is cut, so that neither the number of pieces nor the device changes it; nor, with the
        `Shared` chance of a batch that several processes share, their number. ``forward`` takes the rows of its piece
        as ``drawn``.
        """
        return None

    def compare(self, points: Tensor, jet: Tensor) -> dict[str, Tensor]:
        """Losses of a batch that compares its jets: ``forward(..., look=True)`` gives points (B, V, P), jets (B, D)."""
        raise NotImplementedError

    def conclude(self, tally: Tensor) -> dict[str, float]:
        """What follows from the sum over a whole validation of what ``forward`` gave as ``tally`` in evaluation."""
        raise NotImplementedError

    def alarm(self, losses: Mapping[str, float]) -> str | None:  # noqa: ARG002
        """What the person should be told of the validation losses, if anything."""
        return None
