"""The two blocks of the Particle Transformer, and the attention inside them."""

import math

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from jettag.models.dropout import Kept, Random, dropout, source
from jettag.models.traced import is_traced, linear, linear_of_normed, normed, scaled_sum

__all__ = ["Block", "ClassBlock", "attend", "gelu", "hide", "room"]


# On an accelerator fused attention copies a bias in every layer unless its rows begin at multiples of so many numbers.
ALIGNED = 16


def room(n: int, device: torch.device) -> int:
    """Numbers between the end of a row of n numbers of a bias and the next; never none on an accelerator.

    Without any, which is another layout, a compiler would make another program.
    """
    return 0 if device.type == "cpu" else ALIGNED - n % ALIGNED


def hide(seen: Tensor, like: Tensor) -> Tensor:
    """(b, n) bool -> a bias (b, 1, 1, n), 0 where a key is seen and -inf elsewhere.

    It has the type that queries of the type of ``like`` have, in mixed precision too: all types have these numbers.
    """
    kind, n = like.device.type, seen.shape[1]
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype
    bias = torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, -torch.inf)[:, None, None]
    return F.pad(bias, (0, between))[..., :n] if (between := room(n, like.device)) else bias


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, drop: float, random: Random | None = None
) -> Tensor:
    """softmax(Q K^T / sqrt(d) + bias) V with dropout on the softmax.

    PyTorch's CPU kernel has no gradient for the bias and no dropout, its fallback costs more than the products below,
    and for jets, with few keys a head, so does the kernel.

    Args:
        query: (b, H, q, d).
        key: (b, H, n, d).
        value: (b, H, n, d).
        bias: broadcastable to (b, H, q, n); -inf hides a key.
        drop: probability of dropping an attention weight.
        random: decides on the CPU; one of its own without.

    Returns:
        (b, H, q, d).
    """
    if is_traced(query):
        logits = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5 + bias.to(query.dtype)
        return dropout(torch.softmax(logits, -1), drop, random) @ value.to(query.dtype)
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype), drop)
    key, value, bias = (x.to(query.dtype) for x in (key, value, bias))
    shape = (*query.shape[:3], key.shape[2])
    kept = (random or Random(query, math.prod(shape))).kept(shape, drop) if drop else None
    if not torch.is_grad_enabled():
        return _attend(query, key, value, bias, kept)[0]
    attended: Tensor = _Attend.apply(query, key, value, bias, kept)
    return attended


def _attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, kept: Kept | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """`attend` on the CPU, and what its gradient needs."""
    b, heads, q, d = query.shape
    query, key, value = (x.reshape(b * heads, -1, d) for x in (query, key, value))
    logits = bias.expand(b, heads, -1, -1).reshape(-1, bias.shape[2], bias.shape[3]).expand(-1, q, -1)
    weights = torch.baddbmm(logits, query, key.transpose(1, 2), alpha=d**-0.5)
    torch.softmax(weights, -1, out=weights)
    thinned = weights if kept is None else kept.as_numbers(weights.dtype).view(weights.shape).mul_(weights)
    attended = _product(thinned, value, 1.0 if kept is None else kept.height)
    return attended.view(b, heads, q, d), (query, key, value, weights)


class _Attend(torch.autograd.Function):
    """`attend` on the CPU in as few passes over the attention weights as its gradient allows."""

    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, kept: Kept | None) -> Tensor:
        attended, saved = _attend(query, key, value, bias, kept)
        ctx.save_for_backward(*saved, *(() if kept is None else (kept.bytes,)))
        ctx.shape, ctx.bias_shape = query.shape, bias.shape  # type: ignore[attr-defined]
        ctx.rest = () if kept is None else kept[1:]  # type: ignore[attr-defined]
        return attended

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weights, *draws = ctx.saved_tensors  # type: ignore[attr-defined]
        b, heads, q, d = ctx.shape  # type: ignore[attr-defined]
        gradient = gradient.reshape(b * heads, q, d)
        decided = Kept(*draws, *ctx.rest) if draws else None  # type: ignore[attr-defined]
        kept = None if decided is None else decided.as_numbers(weights.dtype).view(weights.shape)
        height = 1.0 if decided is None else decided.height
        of_weights = _product(gradient, value.transpose(1, 2), height)
        if kept is not None:
            of_weights.mul_(kept)
        of_logits = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        thinned = weights if kept is None else kept.mul_(weights)
        of_value = _product(thinned.transpose(1, 2), gradient, height)
        of_query = _product(of_logits, key, d**-0.5)
        of_key = _product(of_logits.transpose(1, 2), query, d**-0.5)
        of_bias = of_logits.view(b, heads, q, -1).sum_to_size(ctx.bias_shape) if ctx.needs_input_grad[3] else None  # type: ignore[attr-defined]
        pieces = (x.view(b, heads, -1, d) for x in (of_query, of_key, of_value))
        return *pieces, of_bias, None


def _product(x: Tensor, y: Tensor, factor: float) -> Tensor:
    """``factor`` x y for each matrix of (B, m, k) and (B, k, n), without a pass of its own for the factor."""
    return torch.baddbmm(x.new_zeros(()), x, y, beta=0, alpha=factor)


def gelu(x: Tensor) -> Tensor:
    """GELU; in place where no gradient asks for ``x``, which must be nobody else's."""
    compiling = torch.compiler.is_compiling()  # a compiler finds out by itself what may be overwritten
    activated: Tensor = F.gelu(x) if compiling or x.requires_grad else torch.ops.aten.gelu_(x)
    return activated


class _DropPath(DropPath):  # type: ignore[misc]
    """timm's, with its probability in a tensor: a compiler takes a number for a constant, and would compile each layer.

    Args:
        drop_prob: of dropping a branch for a whole jet.
    """

    kept: Tensor

    def __init__(self, drop_prob: float) -> None:
        super().__init__(drop_prob)
        self.acts = drop_prob > 0
        self.register_buffer("kept", torch.tensor(1 - drop_prob), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, D) -> the same, each jet dropped or divided by the probability of not dropping it."""
        if not (self.acts and self.training):
            return x
        own = source() if x.device.type == "cpu" else None
        kept = torch.bernoulli(self.kept.expand(len(x), 1, 1), generator=own) / self.kept
        return x * kept.to(x.dtype)


class _Residual(nn.Module):
    """What both kinds of block share: widths, norms, the MLP and the learnt scales of NormFormer (arXiv:2110.09456).

    The scale of each head acts after the output projection, where weaver-core has it, not before as in the paper.

    Args:
        dim: D.
        num_heads: H.
        mlp_ratio: hidden width of the MLP over D.
        drop: dropout of both branches and of the MLP's hidden layer.
        attention_drop: dropout of attention weights.
        drop_path: probability of dropping a branch for a whole jet.
    """

    def __init__(
        self, dim: int, num_heads: int, *, mlp_ratio: int, drop: float, attention_drop: float, drop_path: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.drop = drop
        self.attention_drop = attention_drop
        self.drop_path = _DropPath(drop_path)
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

    def _random(self, x: Tensor, keys: int) -> Random | None:
        """What decides on all that is dropped of (b, q, D) and their attention to so many keys; None for nothing."""
        b, q, dim = x.shape
        number = b * q * (2 * dim + self.fc1.out_features) if self.drop else 0
        number += b * q * self.num_heads * keys if self.attention_drop else 0
        return Random(x, number) if number and self.training and x.device.type == "cpu" else None

    def _dropout(self, x: Tensor, random: Random | None) -> Tensor:
        return dropout(x, self.drop, random) if self.training else x

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        """(b, n, K D) -> K times (b, H, n, D / H)."""
        b, n, width = x.shape
        dim = self.out.in_features
        parts = x.view(b, n, width // dim, self.num_heads, dim // self.num_heads)
        return parts.permute(2, 0, 3, 1, 4).contiguous().unbind(0)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, random: Random | None) -> Tensor:
        return attend(query, key, value, bias, self.attention_drop if self.training else 0.0, random)

    def _project(self, attended: Tensor, random: Random | None = None) -> Tensor:
        """(b, q, D), heads side by side -> the branch (b, q, D) that joins the residual stream."""
        # Scaling the rows of the projection scales its outputs head by head, without a pass over every token.
        scale = self.head_scale.repeat_interleave(self.out.out_features // self.num_heads)
        x = linear(attended, self.out.weight * scale[:, None], self.out.bias * scale)
        return self._dropout(normed(self.norm_attention, x), random)

    def _mlp(self, x: Tensor, random: Random | None = None) -> Tensor:
        hidden = self._dropout(gelu(linear_of_normed(self.norm_mlp, self.fc1, x)), random)
        return self._dropout(linear_of_normed(self.norm_hidden, self.fc2, hidden), random)

    def _joined(self, x: Tensor, branch: Tensor) -> Tensor:
        """The residual stream (b, q, D) after the MLP."""
        return scaled_sum(self.drop_path(branch), self.residual_scale.to(x.dtype), x)


class Block(_Residual):
    """Constituents look at the constituents of their jet."""

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Norm, attention, skip; norm, MLP, skip.

        Args:
            x: (b, n, D) constituents.
            bias: (b, H, n, n), or anything that broadcasts to it; -inf hides a key.

        Returns:
            (b, n, D).
        """
        random = self._random(x, x.shape[1])
        query, key, value = self._split(linear_of_normed(self.norm_in, self.qkv, x))
        attended = self._attend(query, key, value, bias, random).transpose(1, 2).flatten(2)
        x = x + self.drop_path(self._project(attended, random))
        return self._joined(x, self._mlp(x, random))


class ClassBlock(_Residual):
    """One class token a jet looks at itself and at the jet's constituents (CaiT, arXiv:2103.17239)."""

    def forward(self, token: Tensor, x: Tensor, hidden: Tensor) -> Tensor:
        """The query is the class token as it is; keys and values are normalised.

        Args:
            token: (b, 1, D) class tokens.
            x: (b, n, D) constituents.
            hidden: (b, 1, 1, 1 + n), 0 or -inf where the key is padding; the class token comes first.

        Returns:
            (b, 1, D).
        """
        random = self._random(token, 1 + x.shape[1])
        heads, dim = self.num_heads, token.shape[-1]
        seen = normed(self.norm_in, torch.cat([token, x], dim=1))[:, None]
        of_query, of_key, of_value = self.qkv.weight.view(3, heads, dim // heads, dim)
        query_bias, _, value_bias = self.qkv.bias.view(3, heads, dim // heads)
        # With one query a jet, q.(W u) = (W^T q).u and sum_n a_n W u_n = W sum_n a_n u_n spare two projections of
        # every constituent. The bias of the keys moves all logits alike, which a softmax does not see. `attend`
        # divides by sqrt(D), the network by sqrt(D / H).
        query = torch.einsum("bqc,hdc->bhd", token, of_query) + query_bias
        query = torch.einsum("bhd,hdc->bhc", query, of_key * heads**0.5)[:, None]
        attended = self._attend(query, seen, seen, hidden, random)[:, 0]
        attended = torch.einsum("bhc,hdc->bhd", attended, of_value) + value_bias
        token = token + self.drop_path(self._project(attended.flatten(1)[:, None], random))
        return self._joined(token, self._mlp(token, random))
