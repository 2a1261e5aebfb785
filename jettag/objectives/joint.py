"""Masked modelling and contrastive learning on one pass of the backbone.

The first view of a jet loses its hidden constituents before it is encoded, the second is seen whole. The decoder fills
the first; the projected jet embeddings of both are compared. So the contrast is also between a jet and a part of it.

    loss = masked_weight * masked + contrastive_weight * contrastive, each a mean over all jets
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from jettag.data.jets import Jets, Table
from jettag.data.transfer import sent
from jettag.models.particle_transformer import Encoded
from jettag.objectives.chance import Chance
from jettag.objectives.contrastive import Compared, Contrastive, side_by_side
from jettag.objectives.masked import MaskedModelling
from jettag.objectives.objective import Objective

__all__ = ["Joint"]


class Joint(Objective):
    """Both objectives on the backbone they share.

    Args:
        masked: of the first view.
        contrastive: of both views, on the same backbone.
        masked_weight: of its loss.
        contrastive_weight: of its loss.
    """

    compares = True

    def __init__(
        self,
        masked: MaskedModelling,
        contrastive: Contrastive,
        *,
        masked_weight: float,
        contrastive_weight: float,
    ) -> None:
        super().__init__()
        if masked.backbone is not contrastive.backbone:
            msg = "both objectives must share one backbone"
            raise ValueError(msg)
        self.backbone = masked.backbone
        self.masked = masked
        self.contrastive = contrastive
        # One home for the shared module, so that every tensor stands once in a checkpoint.
        del self.masked.backbone, self.contrastive.backbone
        self.draws_from = masked.draws_from
        self.masked_weight = masked_weight
        self.contrastive_weight = contrastive_weight

    def prepare(self, table: Table, *, seed: int) -> None:
        """Fit the masked target."""
        self.masked.prepare(table, seed=seed)

    def draw(self, jets: Jets, chance: Chance) -> Tensor:
        """(B, K) on the CPU: the numbers of the views, then what is hidden, slot after slot."""
        views = self.contrastive.draw(jets, chance)
        return torch.cat([views, self.masked.draw(jets, chance).flatten(1).to(views.dtype)], dim=1)

    def forward(
        self,
        jets: Jets,
        generator: torch.Generator | None = None,
        drawn: Tensor | None = None,
        *,
        look: bool = False,
        compared: Compared | None = None,
    ) -> dict[str, Tensor]:
        """Losses of a batch: ``loss``, ``masked_loss``, ``contrastive_loss`` and the parts of both, with ``weight``.

        ``look`` and ``compared`` are those of `Contrastive`.
        """
        drawn = self.draw(jets, generator or torch.default_generator) if drawn is None else drawn
        views_end = self.contrastive.views.num_drawn(jets)
        first, second = self.contrastive.views(jets, sent(drawn[:, :views_end], jets.mask.device))
        rest = drawn[:, views_end:]
        slots = jets.mask.shape[1]
        hiding = self.masked.hide(first, rest if rest.shape[1] == slots else rest.view(len(jets), slots, -1))

        batch = side_by_side(hiding.seen, second)
        encoded = self.backbone(batch)
        points = self.contrastive.project(encoded.summary)
        own, width = slice(len(jets)), hiding.seen.mask.shape[1]
        if look:
            return {"points": points, "jet": encoded.summary[own]}
        seen = Encoded(
            encoded.constituents[own, :width], encoded.jet[own], encoded.registers[own], encoded.summary[own]
        )
        filled = self.masked.fill(first, hiding, seen)
        against = self.compare(points, seen.summary) if compared is None else compared.of(points)
        weight = torch.cat([against["weight"][:1], filled.pop("weight"), against.pop("weight")])
        # A jet that hides nothing adds nothing: the masked loss as a mean over all jets, like the other.
        per_jet = filled["loss"] * (weight[1] / weight[0])
        return {
            "loss": self.masked_weight * per_jet + self.contrastive_weight * against["loss"],
            **{name if name != "loss" else "masked_loss": value.detach() for name, value in filled.items()},
            **{name if name != "loss" else "contrastive_loss": value.detach() for name, value in against.items()},
            "weight": weight,
        }

    def compare(self, points: Tensor, jet: Tensor) -> dict[str, Tensor]:
        """Losses of the contrastive part."""
        return self.contrastive.compare(points, jet)

    def alarm(self, losses: Mapping[str, float]) -> str | None:
        """That of the contrastive part."""
        return self.contrastive.alarm(losses)
