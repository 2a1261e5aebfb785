"""Layers of a block, and what a compiler for the CPU is shown in their place: the same numbers, from faster code.

Inductor sums the columns of a matrix, as the gradients of biases, gains and scales ask for, eight columns at a time
through rows that lie far apart. Here each such sum is a product with ones, and the gain and offset of a norm join the
weights of the layer that follows. A mask is computed anew for the gradient from the bytes that decided on it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jettag.models.precision import unrounded

__all__ = ["dropped", "is_traced", "linear", "linear_of_normed", "normed", "scaled_sum"]


def is_traced(x: Tensor) -> bool:
    """Whether a compiler is looking, and ``x`` is on the CPU."""
    return torch.compiler.is_compiling() and x.device.type == "cpu"


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(..., K_in), (K_out, K_in), (K_out,) -> (..., K_out), in mixed precision where that is on."""
    if not is_traced(x):
        return F.linear(x, weight, bias)
    result: Tensor = _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias)
    return result.view(*x.shape[:-1], -1)


def linear_of_normed(norm: nn.LayerNorm, layer: nn.Linear, x: Tensor) -> Tensor:
    """``layer(norm(x))``."""
    if not is_traced(x):
        applied: Tensor = layer(norm(x))
        return applied
    return linear(_standard(norm, x), layer.weight * norm.weight, layer.bias + (layer.weight * norm.bias).sum(1))


def normed(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """``norm(x)``, where no linear layer follows."""
    if not is_traced(x):
        applied: Tensor = norm(x)
        return applied
    return scaled_sum(norm.bias, norm.weight, _standard(norm, x)).to(x.dtype)


def scaled_sum(x: Tensor, scale: Tensor, y: Tensor) -> Tensor:
    """Sum x + scale * y of (..., K) or (K,), (K,) and (..., K)."""
    if not is_traced(y):
        return torch.addcmul(x, scale, y)
    result: Tensor = _ScaledSum.apply(x, scale, y)
    return result


def dropped(x: Tensor, draws: Tensor, level: Tensor, again: Tensor, height: float) -> Tensor:
    """For a compiler only: ``x``, multiplied where its byte is at least the level, and 0 elsewhere.

    Args:
        x: of any shape.
        draws: bytes of the same.
        level: a byte (); a number subtracted and cut off is fast where a comparison of bytes is not.
        again: the same in another tensor, for the gradient; of one, the compiler would keep the mask and not the bytes.
        height: the factor.
    """
    result: Tensor = _Dropped.apply(x, draws, level, again, height)
    return result


def _standard(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, eps=norm.eps)


def _over_rows(x: Tensor) -> Tensor:
    """(..., K) -> (K,) summed over all but the last axis."""
    rows = x.reshape(-1, x.shape[-1])
    return (rows.new_ones(1, rows.shape[0]) @ rows)[0]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        result = F.linear(x, weight, bias)
        ctx.save_for_backward(x.to(result.dtype), weight.to(result.dtype))
        ctx.dtypes = x.dtype, weight.dtype, bias.dtype
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.dtypes
        gradient = gradient.contiguous()
        found = gradient @ weight, gradient.T @ x, _over_rows(gradient)
        return found[0].to(of_x), found[1].to(of_weight), found[2].to(of_bias)


class _ScaledSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(scale, y)
        ctx.is_row = x.ndim < y.ndim
        return x + scale * y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scale, y = ctx.saved_tensors
        with unrounded(y):
            of_x = _over_rows(gradient) if ctx.is_row else gradient
            return of_x, _over_rows(gradient * y), (gradient * scale).to(y.dtype)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, draws: Tensor, level: Tensor, again: Tensor, height: float) -> Tensor:
        ctx.save_for_backward(draws, again)
        ctx.height = height
        return x * _mask(draws, level, height, x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        draws, again = ctx.saved_tensors
        return gradient * _mask(draws, again, ctx.height, gradient), None, None, None, None


def _mask(draws: Tensor, level: Tensor, height: float, like: Tensor) -> Tensor:
    """0 and ``height``, in the type of what they multiply; bytes and their differences are exact in all of them."""
    return (draws.to(like.dtype) - (level.to(like.dtype) - 1)).clamp(0, 1) * height
