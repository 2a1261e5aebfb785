"""Masked particle modelling: hide constituents, and name from the rest what was hidden.

The encoder sees visible constituents only. A light decoder then sees every slot of the jet in order of descending pT:
the encoder's output where a constituent is visible, one learned token where it is hidden, both with an embedding of
the slot's pT rank, and the jet embedding as one slot more, so that the class blocks of the backbone learn too. Each
hidden slot is classified into the k-means token of the constituent that stood there.

References:
    Golling et al., Masked particle modeling on sets, arXiv:2401.13537.
    Leigh et al., Is tokenization needed for masked particle modeling?, arXiv:2409.12589 (encoder without hidden
    slots, rank embedding in the decoder, k-means targets).
"""

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from jettag.data.jets import Jets, Table
from jettag.models.particle_transformer import ParticleTransformer
from jettag.objectives.objective import Objective
from jettag.objectives.tokens import KmeansTokens

__all__ = ["MaskedModelling", "draw_hidden"]

PADDED, VISIBLE, HIDDEN = 0, 1, 2  # what becomes of a slot


def draw_hidden(mask: Tensor, fraction: float, generator: torch.Generator | None = None) -> Tensor:
    """Choose round(fraction n) of each jet's n constituents at random; at least one where n > 1, none where n = 1.

    Args:
        mask: (B, N) bool, True where a constituent is real.
        fraction: of the real constituents.
        generator: on the CPU; the draw is the same on every device.

    Returns:
        (B, N) bool, a subset of ``mask`` that leaves at least one constituent visible.
    """
    count = mask.sum(1)
    num_hidden = torch.round(count * fraction).long().clamp(min=1)
    num_hidden = torch.minimum(num_hidden, count - 1).clamp(min=0)
    noise = torch.rand(mask.shape, generator=generator).to(mask.device)
    rank = noise.masked_fill(~mask, 2.0).argsort(1).argsort(1)
    return (rank < num_hidden[:, None]) & mask


class Decoder(nn.Module):
    """Fill hidden slots: (B, N, D) encoder output and (B, D) jet embedding -> (B, N, K) logits."""

    def __init__(self, dim: int, num_codes: int, *, width: int, layers: int, heads: int, max_rank: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, width)
        self.project_jet = nn.Linear(dim, width)
        self.hidden_token = nn.Parameter(torch.zeros(1, 1, width))
        # Small at the start (arXiv:2409.12589): rank breaks the tie between hidden slots, no more.
        self.rank = nn.Parameter(1e-3 * torch.randn(1, max_rank, width))
        self.blocks = nn.ModuleList([Block(width, heads, mlp_ratio=2.0, qkv_bias=True) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, num_codes)
        trunc_normal_(self.hidden_token, std=0.02)

    def forward(self, encoded: Tensor, jet: Tensor, hidden: Tensor, rows: Tensor, mask: Tensor) -> Tensor:
        """Logits of the hidden slots in row-major order, (number of hidden, K).

        Args:
            encoded: (B, N, D), zero at hidden slots.
            jet: (B, D).
            hidden: (B, N) bool.
            rows: (number of hidden,) positions of the hidden slots in the flattened (B, N).
            mask: (B, N) bool.
        """
        num_slots = mask.shape[1]
        x = torch.where(hidden[..., None], self.hidden_token, self.project(encoded))
        x = x + self.rank[:, torch.arange(num_slots, device=x.device).clamp(max=self.rank.shape[1] - 1)]
        x = torch.cat([self.project_jet(jet)[:, None], x], dim=1)
        attend = F.pad(mask, (1, 0), value=True)[:, None, None, :]
        for block in self.blocks:
            x = block(x, attn_mask=attend)
        logits: Tensor = self.logits(self.norm(x[:, 1:].flatten(0, 1).index_select(0, rows)))
        return logits


class MaskedModelling(Objective):
    """The masked-modelling objective on a backbone.

    The loss is the cross entropy of the hidden constituents, averaged over those of a jet and then over the jets
    that hide at least one: a jet counts once, however many constituents it has.

    Args:
        backbone: encodes the visible constituents.
        feature_names: columns of the batches, from which the tokens take theirs.
        num_codes: number of k-means tokens.
        fit_constituents: sample on which their centres are fitted.
        mask_fraction: of a jet's constituents.
        decoder: width, layers and heads of the decoder.
        max_constituents: ranks the decoder tells apart.
    """

    def __init__(
        self,
        backbone: ParticleTransformer,
        feature_names: tuple[str, ...],
        *,
        num_codes: int,
        fit_constituents: int,
        mask_fraction: float,
        decoder_dim: int,
        decoder_layers: int,
        decoder_heads: int,
        max_constituents: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.mask_fraction = mask_fraction
        self.fit_constituents = fit_constituents
        self.tokens = KmeansTokens(feature_names, num_codes)
        self.decoder = Decoder(
            backbone.dim,
            num_codes,
            width=decoder_dim,
            layers=decoder_layers,
            heads=decoder_heads,
            max_rank=max_constituents,
        )

    def prepare(self, table: Table, *, seed: int) -> None:
        """Fit the tokens' centres on a sample of the training jets."""
        self.tokens.fit(table.sample_features(self.fit_constituents, seed), seed)

    def draw(self, jets: Jets, generator: torch.Generator) -> Tensor:
        """What is hidden of a batch: (B, N) int8 on the CPU, of `PADDED`, `VISIBLE` and `HIDDEN`."""
        mask = jets.mask.cpu()
        return mask.to(torch.int8) + draw_hidden(mask, self.mask_fraction, generator)

    def forward(
        self, jets: Jets, generator: torch.Generator | None = None, drawn: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Losses of a batch: ``loss`` and ``token_accuracy``, and the ``weight`` of both: the jets that hide anything.

        Every shape follows from ``drawn``, which is on the CPU: nothing here waits for the device.

        Args:
            jets: the batch.
            generator: of `draw`, where ``drawn`` is not given.
            drawn: (B, N) from `draw`.
        """
        fate = self.draw(jets, generator or torch.default_generator) if drawn is None else drawn
        device = jets.mask.device
        width = max(int((fate == VISIBLE).sum(1).max()), 1)
        hidden_rows = (fate == HIDDEN).flatten().nonzero().flatten().to(device, non_blocking=True)
        hidden = (fate == HIDDEN).to(device, non_blocking=True)
        visible = jets.mask & ~hidden

        seen = jets.keep(visible, width)
        encoded = self.backbone.constituents(seen)
        jet = self.backbone.pool(encoded, seen.mask)
        # The i-th visible constituent of a jet stands in slot i of what the encoder saw.
        place = (visible.cumsum(1) - 1).clamp(min=0, max=width - 1)
        slots = encoded.gather(1, place[..., None].expand(-1, -1, encoded.shape[-1])) * visible[..., None]
        logits = self.decoder(slots, jet, hidden, hidden_rows, jets.mask).float()

        target = self.tokens(jets.features.flatten(0, 1).index_select(0, hidden_rows))
        per_constituent = F.cross_entropy(logits, target, reduction="none")
        count = hidden.sum(1, keepdim=True)
        share = (1.0 / count.clamp(min=1)).expand_as(hidden).flatten().index_select(0, hidden_rows)
        num_jets = (count > 0).sum()
        return {
            "loss": (per_constituent * share).sum() / num_jets.clamp(min=1),
            "token_accuracy": ((logits.argmax(1) == target) * share).sum().detach() / num_jets.clamp(min=1),
            "weight": num_jets.to(share.dtype).expand(2),
        }
