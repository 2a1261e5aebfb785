"""Supervised classification of jets: cross entropy on the jet embedding."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from jettag.data.jets import Jets
from jettag.models.heads import ClassHead
from jettag.models.particle_transformer import ParticleTransformer
from jettag.objectives.objective import Objective

__all__ = ["Classification"]


class Classification(Objective):
    """A class head on a backbone, and its loss.

    Args:
        backbone: encodes the jets.
        class_weight: C weights of the classes in the loss; ones where not given.
        label_smoothing: as in `torch.nn.functional.cross_entropy`.
        head_hidden: widths of hidden layers in the head; the published head has none.
        freeze_backbone: train the head alone; the backbone keeps its BatchNorm statistics and drops nothing.
    """

    class_weight: Tensor

    def __init__(
        self,
        backbone: ParticleTransformer,
        num_classes: int,
        *,
        class_weight: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        freeze_backbone: bool = False,
        head_hidden: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = ClassHead(backbone.dim, num_classes, hidden=head_hidden)
        self.label_smoothing = label_smoothing
        self.freeze_backbone = freeze_backbone
        self.register_buffer("class_weight", torch.tensor(class_weight or [1.0] * num_classes), persistent=False)
        self.backbone.requires_grad_(not freeze_backbone)

    def train(self, mode: bool = True) -> "Classification":
        """Training mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    def logits(self, jets: Jets) -> Tensor:
        """(B, C) unnormalised log-probabilities."""
        logits: Tensor = self.head(self.backbone(jets).jet)
        return logits.float()

    def forward(
        self,
        jets: Jets,
        generator: torch.Generator | None = None,  # noqa: ARG002
        drawn: Tensor | None = None,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """Losses of a batch with labels: ``loss`` and ``accuracy``, and the ``weight`` of both."""
        if jets.label is None:
            msg = "classification needs labelled jets"
            raise ValueError(msg)
        logits = self.logits(jets)
        return {
            "loss": F.cross_entropy(logits, jets.label, self.class_weight, label_smoothing=self.label_smoothing),
            "accuracy": (logits.argmax(1) == jets.label).float().mean().detach(),
            "weight": torch.stack([self.class_weight[jets.label].sum(), self.class_weight.new_full((), len(jets))]),
        }
