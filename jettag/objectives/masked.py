"""Masked particle modelling: hide constituents, and tell from the rest what was hidden.

The encoder sees visible constituents only. A light decoder then fills the hidden slots (`jettag.objectives.decoders`),
from the encoder's output and the jet embedding, so that the class blocks of the backbone learn too. What is told of a
hidden constituent is its target's choice (`jettag.objectives.targets`): a token, numbers, or a flow towards them.

References:
    Golling et al., Masked particle modeling on sets, arXiv:2401.13537.
    Leigh et al., Is tokenization needed for masked particle modeling?, arXiv:2409.12589 (encoder without hidden
    slots, rank embedding in the decoder, targets).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from jettag.config.objectives import MaskPattern
from jettag.data.jets import Jets, Table
from jettag.data.transfer import sent
from jettag.models.particle_transformer import Encoded, ParticleTransformer
from jettag.models.precision import doubled
from jettag.objectives.chance import Chance
from jettag.objectives.decoders import Scene
from jettag.objectives.masks import draw_hidden
from jettag.objectives.objective import Objective
from jettag.objectives.observables import Observables
from jettag.objectives.targets import IdentityHead, Target

__all__ = ["HIDDEN", "PADDED", "VISIBLE", "MaskedModelling"]

PADDED, VISIBLE, HIDDEN = 0, 1, 2  # what becomes of a slot


@dataclass(frozen=True)
class Hiding:
    """A batch whose hidden constituents are taken away.

    Attributes:
        seen: the visible constituents, moved to the front.
        hidden: (B, N) bool.
        rows: (M,) positions of the hidden slots in the flattened (B, N).
        numbers: (M, Z) drawn for them by the target, or None.
        most_hidden: in one jet.
    """

    seen: Jets
    hidden: Tensor
    rows: Tensor
    numbers: Tensor | None
    most_hidden: int


class MaskedModelling(Objective):
    """The masked-modelling objective on a backbone.

    The loss of a hidden constituent is its target's plus ``identity_weight`` times the cross entropy of its identity.
    It is averaged over those of a jet and then over the jets that hide at least one: a jet counts once, however many
    constituents it has.

    Args:
        backbone: encodes the visible constituents.
        target: what is predicted.
        decoder: `SlotDecoder`, or `SetDecoder` where the target tells it something.
        mask_fraction: of a jet's constituents.
        mask_pattern: as in `draw_hidden`.
        mask_radius: as there.
        identity: predicts the name of each hidden constituent, or None.
        identity_weight: of its loss.
        observables: tells numbers of the whole jet from its embedding, or None.
        observables_weight: of its loss.
    """

    def __init__(
        self,
        backbone: ParticleTransformer,
        target: Target,
        decoder: nn.Module,
        *,
        mask_fraction: float,
        mask_pattern: MaskPattern = "random",
        mask_radius: float = 0.1,
        identity: IdentityHead | None = None,
        identity_weight: float = 0.3,
        observables: Observables | None = None,
        observables_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.target = target
        self.decoder = decoder
        self.mask_fraction = mask_fraction
        self.mask_pattern = mask_pattern
        self.draws_from = () if mask_pattern == "random" else ("p4",)
        self.mask_radius = mask_radius
        self.identity = identity
        self.identity_weight = identity_weight
        self.observables = observables
        self.observables_weight = observables_weight

    def settings(self) -> dict[str, Any]:
        """The backbone, and what the target rests on."""
        return super().settings() | self.target.settings()

    def prepare(self, table: Table, *, seed: int) -> None:
        """Fit the target on a sample of the training jets, and the scale of the observables on all of them."""
        self.target.prepare(table, seed=seed)
        if self.observables is not None:
            self.observables.prepare(table, seed=seed)

    def draw(self, jets: Jets, chance: Chance) -> Tensor:
        """What is hidden of a batch, on the CPU: `PADDED`, `VISIBLE` and `HIDDEN`, (B, N) int8.

        Where the target draws numbers too, they follow in a last axis: (B, N, 1 + Z) float32.
        """
        jets = jets.to("cpu")
        hidden = draw_hidden(jets, self.mask_fraction, chance, pattern=self.mask_pattern, radius=self.mask_radius)
        fate = jets.mask.to(torch.int8) + hidden
        numbers = self.target.draw(jets.mask, chance)
        return fate if numbers is None else torch.cat([fate[..., None].float(), numbers], dim=-1)

    def forward(
        self, jets: Jets, generator: torch.Generator | None = None, drawn: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Losses of a batch, and the ``weight`` of each: the jets that hide anything.

        Every shape follows from ``drawn``, which is on the CPU: nothing here waits for the device.

        Args:
            jets: the batch.
            generator: of `draw`, where ``drawn`` is not given.
            drawn: from `draw`.
        """
        drawn = self.draw(jets, generator or torch.default_generator) if drawn is None else drawn
        hiding = self.hide(jets, drawn)
        return self.fill(jets, hiding, self.backbone(hiding.seen))

    def hide(self, jets: Jets, drawn: Tensor) -> Hiding:
        """What the encoder may see of a batch, and what it must not."""
        fate, numbers = (drawn, None) if drawn.ndim == 2 else (drawn[..., 0], drawn[..., 1:])
        device = jets.mask.device
        width = max(int((fate == VISIBLE).sum(1).max()), 1)
        most_hidden = max(int((fate == HIDDEN).sum(1).max()), 1)
        rows = (fate == HIDDEN).flatten().nonzero().flatten()
        if numbers is not None:
            numbers = sent(numbers.flatten(0, 1).index_select(0, rows), device)
        hidden = sent(fate == HIDDEN, device)
        return Hiding(
            seen=jets.keep(jets.mask & ~hidden, width),
            hidden=hidden,
            rows=sent(rows, device),
            numbers=numbers,
            most_hidden=most_hidden,
        )

    def fill(self, jets: Jets, hiding: Hiding, encoded: Encoded) -> dict[str, Tensor]:
        """Losses of the hidden constituents, and their ``weight``.

        Args:
            jets: the batch.
            hiding: from `hide`.
            encoded: what the backbone made of ``hiding.seen``.
        """
        rows, numbers = hiding.rows, hiding.numbers
        scene = Scene(
            seen=encoded.constituents,
            seen_mask=hiding.seen.mask,
            jet=encoded.jet,
            registers=encoded.registers,
            mask=jets.mask,
            hidden=hiding.hidden,
            rows=rows,
            most_hidden=hiding.most_hidden,
        )
        decoded = self.decoder(scene, self.target.query(jets, rows, numbers))
        losses = self.target(decoded, jets, rows, numbers)
        if self.identity is not None:
            named, right = self.identity(decoded, jets, rows)
            losses = losses | {"loss": losses["loss"] + self.identity_weight * named, "identity_accuracy": right}
        count = hiding.hidden.sum(1, keepdim=True)
        num_jets = (count > 0).sum()
        means = _per_jet(losses, hiding.hidden, rows)
        if self.observables is not None:
            told = self.observables(encoded.jet, jets) * (count[:, 0] > 0)
            told = told.sum(dtype=doubled(told)) / num_jets.clamp(min=1)
            means = means | {
                "loss": means["loss"] + self.observables_weight * told,
                "observables_loss": told.detach(),
            }
        return means | {"weight": num_jets.to(means["loss"].dtype).expand(len(means))}


def _per_jet(losses: dict[str, Tensor], hidden: Tensor, rows: Tensor) -> dict[str, Tensor]:
    """Losses of constituents (M,) -> means over jets of the means over a jet's hidden constituents."""
    count = hidden.sum(1, keepdim=True)
    share = (1.0 / count.clamp(min=1)).expand_as(hidden).flatten().index_select(0, rows)
    num_jets = (count > 0).sum().clamp(min=1)
    return {name: (value * share).sum(dtype=doubled(value)) / num_jets for name, value in losses.items()}
