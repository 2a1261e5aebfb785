"""What fills hidden slots from what the encoder saw: one decoder that knows the slots' pT ranks, and one for sets."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from timm.models.vision_transformer import Block
from torch import Tensor, nn

__all__ = ["Scene", "SetDecoder", "SlotDecoder"]


@dataclass(frozen=True)
class Scene:
    """A batch with holes. V visible and M hidden constituents; R registers.

    Attributes:
        seen: (B, V, D) encoder output of the visible constituents, in order.
        seen_mask: (B, V) bool.
        jet: (B, D) embedding of the visible jet.
        registers: (B, R, D).
        mask: (B, N) bool, real constituents.
        hidden: (B, N) bool.
        rows: (M,) positions of the hidden slots in the flattened (B, N).
        most_hidden: of one jet, at least 1; known without asking the device.
    """

    seen: Tensor
    seen_mask: Tensor
    jet: Tensor
    registers: Tensor
    mask: Tensor
    hidden: Tensor
    rows: Tensor
    most_hidden: int

    @property
    def extra(self) -> Tensor:
        """(B, 1 + R, D): the jet embedding and the registers, slots that belong to no constituent."""
        return torch.cat([self.jet[:, None], self.registers], dim=1)


class SlotDecoder(nn.Module):
    """Every slot of the jet in order of descending pT: the encoder's output, or one learned token where it is hidden.

    Each slot has an embedding of its rank, which is the one thing told about a hidden constituent.

    Args:
        dim: D of the encoder.
        width: W of the decoder.
        layers: self-attention blocks.
        heads: of each.
        max_rank: ranks told apart.
    """

    def __init__(self, dim: int, *, width: int, layers: int, heads: int, max_rank: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, width)
        self.project_jet = nn.Linear(dim, width)
        self.hidden_token = nn.Parameter(torch.zeros(1, 1, width))
        # Small at the start (arXiv:2409.12589): rank breaks the tie between hidden slots, no more.
        self.rank = nn.Parameter(1e-3 * torch.randn(1, max_rank, width))
        self.blocks = nn.ModuleList([Block(width, heads, mlp_ratio=2.0, qkv_bias=True) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        trunc_normal_(self.hidden_token, std=0.02)

    def forward(self, scene: Scene, query: Tensor | None) -> Tensor:
        """(M, W), one row a hidden constituent; ``query`` (M, W) is None here."""
        if query is not None:
            msg = "a SlotDecoder is told nothing of what is hidden"
            raise ValueError(msg)
        num_slots = scene.mask.shape[1]
        visible = scene.mask & ~scene.hidden
        # The i-th visible constituent of a jet stands in slot i of what the encoder saw.
        place = (visible.cumsum(1) - 1).clamp(min=0, max=scene.seen.shape[1] - 1)
        seen = self.project(scene.seen)
        x = seen.gather(1, place[..., None].expand(-1, -1, seen.shape[-1]))
        x = torch.where(scene.hidden[..., None], self.hidden_token.to(x.dtype), x)
        x = x + self.rank[:, torch.arange(num_slots, device=x.device).clamp(max=self.rank.shape[1] - 1)]
        extra = self.project_jet(scene.extra)
        x = torch.cat([extra, x], dim=1)
        attend = F.pad(scene.mask, (extra.shape[1], 0), value=True)[:, None, None, :]
        for block in self.blocks:
            x = block(x, attn_mask=attend)
        decoded: Tensor = self.norm(x[:, extra.shape[1] :].flatten(0, 1).index_select(0, scene.rows))
        return decoded


class SetDecoder(nn.Module):
    """The hidden constituents as a set: they attend to one another and to what the encoder saw; no ranks.

    Args:
        dim: D of the encoder.
        width: W of the decoder.
        layers: blocks of self-attention, cross-attention and MLP.
        heads: of each attention.
    """

    def __init__(self, dim: int, *, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(dim, width), nn.LayerNorm(width))
        self.project_jet = nn.Sequential(nn.Linear(dim, width), nn.LayerNorm(width))
        self.blocks = nn.ModuleList(
            [
                nn.TransformerDecoderLayer(
                    width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
                )
                for _ in range(layers)
            ]
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, scene: Scene, query: Tensor | None) -> Tensor:
        """(M, W), one row a hidden constituent.

        Args:
            scene: what was seen, and where the holes are.
            query: (M, W), what is told of each hidden constituent.
        """
        if query is None:
            msg = "a SetDecoder needs something to tell the members of the set apart"
            raise ValueError(msg)
        b, wide, width = len(scene.mask), scene.most_hidden, query.shape[-1]
        jet = scene.rows // scene.mask.shape[1]
        place = (scene.hidden.cumsum(1) - 1).flatten().index_select(0, scene.rows) + jet * wide
        x = query.new_zeros(b * wide, width).index_copy(0, place, query).view(b, wide, width)
        memory = torch.cat([self.project_jet(scene.extra), self.project(scene.seen)], dim=1)
        absent_memory = F.pad(~scene.seen_mask, (memory.shape[1] - scene.seen_mask.shape[1], 0), value=False)
        slot = torch.arange(wide, device=x.device)
        # A jet that hides nothing sees its first, empty slot: a softmax over nothing is NaN.
        absent = (slot >= scene.hidden.sum(1, keepdim=True)) & (slot > 0)
        for block in self.blocks:
            x = block(x, memory, tgt_key_padding_mask=absent, memory_key_padding_mask=absent_memory)
        decoded: Tensor = self.norm(x.flatten(0, 1).index_select(0, place))
        return decoded
