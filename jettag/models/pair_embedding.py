"""The pair bias U of the Particle Transformer, and the batch normalisation that sees real entries only."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from jettag.models.layout import Group, Layout
from jettag.physics.kinematics import NUM_PAIR_FEATURES, pair_features

__all__ = ["PairEmbedding", "RealBatchNorm"]


class RealBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of rows (M, K) whose statistics are those of the real rows.

    A batch with a single row has no spread: it is normalised with the running statistics, which it leaves alone.
    """

    def forward(self, x: Tensor, is_real: Tensor | None = None) -> Tensor:
        """Normalise (M, K); ``is_real`` (M,) marks the rows that count, None for all."""
        if not self.training or len(x) < 2:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        if is_real is None:
            return super().forward(x)
        weight = is_real.to(x.dtype)[:, None]
        count = weight.sum().clamp(min=1)
        mean = (x * weight).sum(0) / count
        centred = x - mean
        variance = (centred.square() * weight).sum(0) / count
        with torch.no_grad():
            # As PyTorch does: the running variance is the unbiased one, the batch is divided by the biased one.
            unbiased = variance * count / (count - 1).clamp(min=1)
            momentum = 0.0 if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)  # type: ignore[union-attr]
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)  # type: ignore[union-attr]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        return centred * (variance + self.eps).rsqrt() * self.weight + self.bias


class _Square(torch.autograd.Function):
    """Values of unordered pairs (P, H) laid out as (b, H, n, n), -inf at hidden keys and 0 in padded rows."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, group: Group) -> Tensor:
        ctx.group = group  # type: ignore[attr-defined]
        b, n = group.real.shape
        hidden = values.new_full((1, values.shape[1]), -torch.inf)
        table = torch.cat([values, hidden, torch.zeros_like(hidden)])
        return table.index_select(0, group.square).view(b, n, n, -1).permute(0, 3, 1, 2).contiguous()

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        group: Group = ctx.group  # type: ignore[attr-defined]
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, gradient.shape[1])
        mirrored = rows.index_select(0, group.lower)
        # A constituent's pair with itself stands once in the square.
        mirrored.masked_fill_((group.upper == group.lower)[:, None], 0)
        return mirrored.add_(rows.index_select(0, group.upper)), None


class PairEmbedding(nn.Module):
    """Pair features -> normalise -> [linear, normalise, GELU] per width -> one number a head.

    The features are symmetric, so the network runs once for each unordered pair of real constituents.

    Args:
        widths: of the layers; the number of heads H comes last.
        last_activation: keep the GELU after the last layer, as the published networks do
            (``use_pre_activation_pair=False`` in weaver-core, whose default drops it).
    """

    def __init__(self, widths: Sequence[int], *, last_activation: bool = True) -> None:
        super().__init__()
        self.last_activation = last_activation
        self.norm = RealBatchNorm(NUM_PAIR_FEATURES)
        inputs = [NUM_PAIR_FEATURES, *widths[:-1]]
        self.linears = nn.ModuleList(nn.Linear(before, after) for before, after in zip(inputs, widths, strict=True))
        self.norms = nn.ModuleList(RealBatchNorm(width) for width in widths)

    def forward(self, p4: Tensor, layout: Layout) -> list[Tensor]:
        """Bias of every group.

        Args:
            p4: (M, 4) tokens, (px, py, pz, energy) in GeV.
            layout: of the batch.

        Returns:
            for each group (b, H, n, n), added to its attention logits; -inf where the key is padding.
        """
        is_real = layout.pair_is_real
        x = pair_features(p4[layout.pair_i], p4[layout.pair_j]).to(self.norm.weight.dtype)
        x = self.norm(x, is_real)
        layers = zip(self.linears, self.norms, strict=True)
        for place, (linear, norm) in enumerate(cast("Iterable[tuple[nn.Linear, RealBatchNorm]]", layers)):
            x = norm(linear(x), is_real) if self.training else F.linear(x, *_folded(linear, norm))
            if self.last_activation or place + 1 < len(self.linears):
                x = F.gelu(x)
        pieces = torch.split(x, list(layout.pair_counts))
        return [_Square.apply(piece, group) for piece, group in zip(pieces, layout.groups, strict=True)]


def _folded(linear: nn.Linear, norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Weight and bias of one linear layer that does what ``linear`` and an evaluating ``norm`` do in turn."""
    mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return linear.weight * scale[:, None], (linear.bias - mean) * scale + norm.bias
