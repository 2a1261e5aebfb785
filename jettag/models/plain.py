"""A tagger as one plain function of padded arrays, for programs that do not have jettag.

The same weights as `jettag.models.particle_transformer`, without what makes that one fast: no groups of jets, no packed
pairs, no rearranged products, no shape that depends on the mask. tests/models/test_plain.py holds both together.
"""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jettag.models.attention import Block, ClassBlock
from jettag.models.batch_norm import RealBatchNorm
from jettag.models.heads import AttentiveHead, ClassHead
from jettag.models.particle_transformer import ParticleTransformer
from jettag.physics.kinematics import pair_features

__all__ = ["PlainTagger"]


class PlainTagger(nn.Module):
    """(features, p4, mask) -> class probabilities, in evaluation.

    Args:
        backbone: a network without low-rank updates.
        head: of its classes.
    """

    def __init__(self, backbone: ParticleTransformer, head: ClassHead | AttentiveHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.outputs: tuple[str, ...] = ("probabilities",)  # names of what `forward` returns
        self.eval().requires_grad_(False)

    def forward(self, features: Tensor, p4: Tensor, mask: Tensor) -> Tensor:
        """Class probabilities.

        Args:
            features: (B, N, F), standardised.
            p4: (B, N, 4), (px, py, pz, energy) in GeV.
            mask: (B, N) bool, True where there is a constituent; what stands elsewhere does not matter.

        Returns:
            (B, C).
        """
        return torch.softmax(self.classes(self.encode(features, p4, mask), mask).float(), dim=1)

    def encode(self, features: Tensor, p4: Tensor, mask: Tensor) -> list[Tensor]:
        """(B, N, D) constituents after each of the blocks that a summary wants, the last one first."""
        features = features.masked_fill(~mask[..., None], 0)
        p4 = p4.masked_fill(~mask[..., None], 0)
        # A softmax over nothing is NaN: a jet without constituents sees the class token alone, and its blocks slot 0.
        visible = mask | (~mask.any(1, keepdim=True) & (torch.cumsum(torch.ones_like(mask, dtype=torch.int32), 1) == 1))
        x = self._embed(features)
        bias = self._bias(p4).masked_fill(~visible[:, None, None, :], -torch.inf)
        x, bias = self._beside_registers(x, bias, mask)
        number = 0 if self.backbone.registers is None else self.backbone.registers.shape[1]
        after = [x]
        for block in cast("Iterable[Block]", self.backbone.blocks):
            after.append(_constituent_block(block, after[-1], bias))
        return [x[:, number:] for x in after[: -self.backbone.summary_blocks - 1 : -1]]

    def classes(self, encoded: Sequence[Tensor], mask: Tensor) -> Tensor:
        """(B, C) logits from what `encode` gives."""
        x, *earlier = encoded
        if isinstance(self.head, AttentiveHead):
            token = _class_block(self.head.block, self.head.token.expand(x.shape[0], -1, -1), x, mask)
            logits: Tensor = self.head.layers(self.head.norm(token[:, 0]))
        else:
            means = [cast("Tensor", self.backbone.norm(_mean(each, mask))) for each in earlier]
            logits = self.head(torch.cat([self.pool(x, mask), *means], dim=1))
        return logits

    def _embed(self, features: Tensor) -> Tensor:
        embedding = self.backbone.embedding
        x = features
        if embedding.slots is not None:
            absent = torch.tensor([slot is None for slot in embedding.slots])
            x = features[..., [slot or 0 for slot in embedding.slots]]
            x = torch.where(absent, cast("Tensor", embedding.norm.running_mean), x)
        x = embedding.layers[:2](_normalise(embedding.norm, x))
        if embedding.joining_norm is not None and embedding.joining_linear is not None:
            joining = _normalise(embedding.joining_norm, features[..., list(embedding.joining)])
            x = x + embedding.joining_linear(joining)
        result: Tensor = embedding.layers[2:](x)
        return result

    def _bias(self, p4: Tensor) -> Tensor:
        """(B, H, N, N), or what broadcasts to it."""
        network = self.backbone.pair_embedding
        b, n, _ = p4.shape
        if network is None:
            return p4.new_zeros(b, 1, 1, n)
        first, second = p4[:, :, None].expand(b, n, n, 4), p4[:, None].expand(b, n, n, 4)
        x = _normalise(network.norm, pair_features(first, second))
        for place, (linear, norm) in enumerate(zip(network.linears, network.norms, strict=True)):
            x = _normalise(cast("RealBatchNorm", norm), linear(F.gelu(x) if place else x))
        return (F.gelu(x) if network.last_activation else x).permute(0, 3, 1, 2)

    def _beside_registers(self, x: Tensor, bias: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Constituents (b, n, D) and their bias with the registers before them, where there are any."""
        if self.backbone.registers is None:
            return x, bias
        registers = self.backbone.registers.expand(x.shape[0], -1, -1)
        number, size = registers.shape[1], mask.shape[1]
        seen = F.pad(torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, -torch.inf), (number, 0))
        heads = cast("Block", self.backbone.blocks[0]).num_heads
        of_registers = seen[:, None, None].expand(-1, heads, number, -1)
        of_constituents = F.pad(bias.expand(-1, heads, size, -1), (number, 0))
        return torch.cat([registers, x], dim=1), torch.cat([of_registers, of_constituents], dim=2)

    def pool(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, D) jets from the constituents."""
        if self.backbone.class_token is None:
            pooled = _mean(x, mask)
        else:
            token = self.backbone.class_token.expand(x.shape[0], -1, -1)
            for block in cast("Iterable[ClassBlock]", self.backbone.class_blocks):
                token = _class_block(block, token, x, mask)
            pooled = token[:, 0]
        normed: Tensor = self.backbone.norm(pooled)
        return normed


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    """(B, N, D) -> (B, D), over constituents."""
    weight = mask[..., None].to(x.dtype)
    return (x * weight).sum(1) / weight.sum(1).clamp(min=1)


def _normalise(norm: RealBatchNorm, x: Tensor) -> Tensor:
    """Batch normalisation of the last axis with the running statistics."""
    mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
    return (x - mean) * (variance + norm.eps).rsqrt() * norm.weight + norm.bias


def _attention(block: Block | ClassBlock, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d) + bias) V, heads side by side, and the projection of the block."""
    b, dim = query.shape[0], block.out.in_features
    width = dim // block.num_heads
    q, k, v = (x.reshape(b, -1, block.num_heads, width).transpose(1, 2) for x in (query, key, value))
    weights = torch.softmax(q @ k.transpose(2, 3) * width**-0.5 + bias, dim=-1)
    attended = (weights @ v).transpose(1, 2).reshape(b, -1, dim)
    scale = block.head_scale.repeat_interleave(width)
    normed: Tensor = block.norm_attention(block.out(attended) * scale)
    return normed


def _mlp(block: Block | ClassBlock, x: Tensor) -> Tensor:
    """MLP and skip."""
    moved: Tensor = block.fc2(block.norm_hidden(F.gelu(block.fc1(block.norm_mlp(x))))) + block.residual_scale * x
    return moved


def _constituent_block(block: Block, x: Tensor, bias: Tensor) -> Tensor:
    query, key, value = block.qkv(block.norm_in(x)).chunk(3, dim=-1)
    return _mlp(block, x + _attention(block, query, key, value, bias))


def _class_block(block: ClassBlock, token: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    seen = block.norm_in(torch.cat([token, x], dim=1))
    bias = torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, -torch.inf)
    bias = torch.cat([torch.zeros_like(bias[:, :1]), bias], dim=1)[:, None, None]
    weights, biases = block.qkv.weight.chunk(3), block.qkv.bias.chunk(3)
    query = F.linear(token, weights[0], biases[0])
    key, value = F.linear(seen, weights[1], biases[1]), F.linear(seen, weights[2], biases[2])
    return _mlp(block, token + _attention(block, query, key, value, bias))
