"""The two blocks of the Particle Transformer, and the attention inside them, on packed tokens."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from jettag.models.layout import Layout

__all__ = ["Block", "ClassBlock", "attend"]


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, dropout: float) -> Tensor:
    """softmax(Q K^T / sqrt(d) + bias) V with dropout on the softmax.

    PyTorch's CPU kernels fall back to a slow path as soon as the bias needs a gradient or there is dropout, and draw
    one Mersenne-Twister number an entry; there we multiply ourselves and draw four decisions with one number.

    Args:
        query: (b, H, q, d).
        key: (b, H, n, d).
        value: (b, H, n, d).
        bias: broadcastable to (b, H, q, n); -inf hides a key.
        dropout: probability of dropping an attention weight.

    Returns:
        (b, H, q, d).
    """
    needs_gradient = torch.is_grad_enabled() and (query.requires_grad or bias.requires_grad)
    if query.device.type != "cpu" or not (dropout or needs_gradient):
        return F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype), dropout)
    b, heads, q, d = query.shape
    n = key.shape[2]
    logits = torch.baddbmm(
        bias.to(query.dtype).expand(b, heads, q, n).reshape(b * heads, q, n),
        query.reshape(b * heads, q, d),
        key.reshape(b * heads, n, d).transpose(1, 2),
        alpha=d**-0.5,
    )
    weights = logits.softmax(-1)
    if dropout:
        weights = weights * _keep_scale(weights, dropout)
    return torch.bmm(weights, value.reshape(b * heads, n, d)).view(b, heads, q, d)


def _keep_scale(like: Tensor, dropout: float) -> Tensor:
    """1 / (1 - p) with probability 1 - p, else 0; p is rounded to a multiple of 2^-16."""
    threshold = round(dropout * 65536)
    draws = torch.empty((like.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    kept = draws.view(torch.int16)[: like.numel()].view(like.shape) >= threshold - 32768
    return kept.to(like.dtype).mul_(65536 / (65536 - threshold))


class _Residual(nn.Module):
    """What both kinds of block share: widths, norms, the MLP and the learnt scales of NormFormer (arXiv:2110.09456).

    The scale of each head acts after the output projection, where weaver-core has it, not before as in the paper.
    """

    def __init__(
        self, dim: int, num_heads: int, *, mlp_ratio: int, dropout: float, attention_dropout: float, drop_path: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.drop_path = DropPath(drop_path)
        self.norm_in = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.head_scale = nn.Parameter(torch.ones(num_heads))
        self.norm_attention = nn.LayerNorm(dim)
        self.norm_mlp = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, mlp_ratio * dim)
        self.norm_hidden = nn.LayerNorm(mlp_ratio * dim)
        self.fc2 = nn.Linear(mlp_ratio * dim, dim)
        self.residual_scale = nn.Parameter(torch.ones(dim))

    def _split(self, x: Tensor) -> Tensor:
        """(b, n, K D) -> (K, b, H, n, D / H)."""
        b, n, width = x.shape
        dim = self.out.in_features
        return x.view(b, n, width // dim, self.num_heads, dim // self.num_heads).permute(2, 0, 3, 1, 4)

    def _after_attention(self, attended: Tensor) -> Tensor:
        """(..., D) concatenated heads -> the branch that joins the residual stream."""
        x = self.out(attended)
        x = (x.unflatten(-1, (self.num_heads, -1)) * self.head_scale[:, None]).flatten(-2)
        return F.dropout(self.norm_attention(x), self.dropout, self.training)

    def _mlp(self, x: Tensor) -> Tensor:
        hidden = F.dropout(F.gelu(self.fc1(self.norm_mlp(x))), self.dropout, self.training)
        return F.dropout(self.fc2(self.norm_hidden(hidden)), self.dropout, self.training)

    @property
    def _attention_dropout(self) -> float:
        return self.attention_dropout if self.training else 0.0


class Block(_Residual):
    """Constituents look at the constituents of their jet."""

    def forward(self, x: Tensor, biases: Sequence[Tensor], layout: Layout) -> Tensor:
        """Norm, attention, skip; norm, MLP, skip.

        Args:
            x: (M, D) tokens.
            biases: for each group (b, H, n, n).
            layout: of the batch.

        Returns:
            (M, D).
        """
        x = x + self._per_jet(self._attention(self.norm_in(x), biases, layout), layout)
        out: Tensor = self.residual_scale * x + self._per_jet(self._mlp(x), layout)
        return out

    def _attention(self, x: Tensor, biases: Sequence[Tensor], layout: Layout) -> Tensor:
        pieces = []
        for tokens, bias, group in zip(layout.split(self.qkv(x)), biases, layout.groups, strict=True):
            query, key, value = self._split(group.spread(tokens))
            attended = attend(query, key, value, bias, self._attention_dropout)
            pieces.append(group.gather(attended.transpose(1, 2).flatten(2)))
        return self._after_attention(torch.cat(pieces))

    def _per_jet(self, branch: Tensor, layout: Layout) -> Tensor:
        """Stochastic depth: the branch of a whole jet is dropped, not of single tokens."""
        if not (self.training and self.drop_path.drop_prob):
            return branch
        kept: Tensor = self.drop_path(branch.new_ones(len(layout.mask), 1))
        return branch * kept[layout.jet]


class ClassBlock(_Residual):
    """One class token per jet looks at itself and at the jet's constituents (CaiT, arXiv:2103.17239)."""

    def forward(self, token: Tensor, x: Tensor, hidden: Tensor) -> Tensor:
        """The query is the class token as it is; keys and values are normalised.

        Args:
            token: (b, 1, D) class tokens.
            x: (b, n, D) constituents.
            hidden: (b, 1, 1, 1 + n), 0 or -inf where the key is padding; the class token comes first.

        Returns:
            (b, 1, D).
        """
        dim = token.shape[-1]
        seen = self.norm_in(torch.cat([token, x], dim=1))
        query = self._split(F.linear(token, self.qkv.weight[:dim], self.qkv.bias[:dim]))[0]
        key, value = self._split(F.linear(seen, self.qkv.weight[dim:], self.qkv.bias[dim:]))
        attended = attend(query, key, value, hidden, self._attention_dropout).transpose(1, 2).flatten(2)
        token = token + self.drop_path(self._after_attention(attended))
        out: Tensor = self.residual_scale * token + self.drop_path(self._mlp(token))
        return out
