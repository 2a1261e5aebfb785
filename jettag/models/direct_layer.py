"""A linear layer over very many rows, the normalisation of its outputs, and a GELU, as one function with its gradient.

For a CPU, where passes over the outputs, some thousand rows at a time, take less than the product of all inputs with
themselves from which `pair_embedding` knows the mean and the variance elsewhere.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from jettag.models.synchronise import summed
from jettag.models.threads import shared

__all__ = ["DirectLayer"]

ROWS = 4096  # at a time: a megabyte of 64 numbers each in single precision


class DirectLayer(torch.autograd.Function):
    """Rows x -> GELU(s (W x - m) / sqrt(v + eps) + t), with mean m and variance v of W x over all real rows."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        weight: Tensor,
        bias: Tensor,
        gain: Tensor,
        offset: Tensor,
        eps: float,
        activate: bool,
        real: Sequence[Tensor | None],
        *pieces: Tensor,
    ) -> tuple[Tensor, ...]:
        """Apply to all pieces of a batch.

        Args:
            ctx: PyTorch's.
            weight: W (K_out, K_in).
            bias: b (K_out,), which the normalisation takes away again.
            gain: s (K_out,).
            offset: t (K_out,).
            eps: added to the variance.
            activate: GELU at the end.
            real: for each piece (P, 1), 1 where a row counts and 0 elsewhere; None for all.
            *pieces: x, (P, K_in) each.

        Returns:
            m + b and v (K_out,), and the number of rows that count (), none with a gradient; then (P, K_out) for each
            piece.
        """
        dtype = pieces[0].dtype  # which may have half the precision of the weights
        matrix = weight.to(dtype).T
        device = weight.device
        found = shared(_products, [(x, matrix, y) for x, y in zip(pieces, real, strict=True)], device)
        products, *sums = zip(*found, strict=True)
        first, second, count = summed(*(torch.stack(parts).sum(0).to(weight.dtype) for parts in sums))
        count = count.clamp(min=1)
        mean = first / count
        variance = (second / count - mean.square()).clamp(min=0)
        rate = (variance + eps).rsqrt()
        scale = gain * rate
        shift = offset - mean * scale
        shift, factor = shift.to(dtype), scale.to(dtype)
        results = shared(_activated, [(y, shift, factor, activate) for y in products], device)
        moved = mean + bias
        ctx.mark_non_differentiable(moved, variance, count)
        ctx.save_for_backward(weight, scale, mean, rate, count, shift, factor, *pieces, *products)
        ctx.activate, ctx.real = activate, real  # type: ignore[attr-defined]
        return moved, variance, count, *results

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Two passes: the sums over all rows that the mean and the variance hand down, and then the products."""
        weight, scale, mean, rate, count, *saved = ctx.saved_tensors  # type: ignore[attr-defined]
        shift, factor, *saved = saved
        pieces, products = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        activate: bool = ctx.activate  # type: ignore[attr-defined]
        asked = [(x.contiguous(), y, shift, factor, activate) for x, y in zip(gradients[3:], products, strict=True)]
        of_standard, *sums = zip(*shared(_of_standard, asked, weight.device), strict=True)
        first, second = (torch.stack(parts).sum(0) for parts in sums)
        of_gain = (second - mean * first) * rate
        # Mean and variance are those of all processes; the gradients of gain and offset stay with their own.
        of_mean, of_spread = summed(first, of_gain)
        slope = -rate * of_spread / count
        level = -of_mean / count - slope * mean
        dtype = factor.dtype
        moments = (level.to(dtype), slope.to(dtype), (weight * scale[:, None]).to(dtype))
        wanted = ctx.needs_input_grad[7:]  # type: ignore[attr-defined]
        sets = zip(pieces, products, of_standard, ctx.real, wanted, strict=True)  # type: ignore[attr-defined]
        found = shared(_of_rows, [(*of_piece, *moments) for of_piece in sets], weight.device)
        of_weight = torch.stack([y for _, y in found]).sum(0).to(weight.dtype) * scale[:, None]
        return of_weight, torch.zeros_like(mean), of_gain, first, None, None, None, *(x for x, _ in found)


def _products(x: Tensor, matrix: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W x of one piece, and the sums of it and its square over the rows that count, and their number."""
    result = x.new_empty(len(x), matrix.shape[1])
    spare = _Spare(result)
    first, second = torch.zeros(2, matrix.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))
    for rows in _chunks(result):
        part = torch.mm(x[rows], matrix, out=result[rows])
        counted = part if real is None else part * real[rows]
        first += counted.sum(0, dtype=first.dtype)
        second += torch.mul(counted, part, out=spare.like(part)).sum(0, dtype=first.dtype)
    return result, first, second, first.new_tensor(len(x)) if real is None else real.sum(dtype=first.dtype)


def _activated(product: Tensor, shift: Tensor, factor: Tensor, activate: bool) -> Tensor:
    """W x of one piece, normalised and after the GELU."""
    result = torch.empty_like(product)
    spare = _Spare(result)
    for rows in _chunks(product):
        out = result[rows]
        standard = torch.addcmul(shift, product[rows], factor, out=spare.like(out) if activate else out)
        if activate:
            torch.ops.aten.gelu.out(standard, out=out)
    return result


def _of_standard(
    gradient: Tensor, product: Tensor, shift: Tensor, factor: Tensor, activate: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient before the GELU of one piece, and the sums over all rows of it and of it times W x."""
    wanted = torch.empty_like(product) if activate else gradient
    spare = _Spare(product)
    first, second = torch.zeros(2, product.shape[1], dtype=torch.promote_types(product.dtype, torch.float32))
    for rows in _chunks(product):
        part = wanted[rows]
        if activate:
            standard = torch.addcmul(shift, product[rows], factor, out=spare.like(part))
            torch.ops.aten.gelu_backward.grad_input(gradient[rows], standard, grad_input=part)
        first += part.sum(0, dtype=first.dtype)
        second += torch.mul(part, product[rows], out=spare.like(part)).sum(0, dtype=first.dtype)
    return wanted, first, second


def _of_rows(
    x: Tensor,
    product: Tensor,
    of_standard: Tensor,
    real: Tensor | None,
    wanted: bool,
    level: Tensor,
    slope: Tensor,
    scaled: Tensor,
) -> tuple[Tensor | None, Tensor]:
    """The gradients of x of one piece, if wanted, and of the matrix before its rows are scaled."""
    spare = _Spare(product)
    of_x = torch.empty_like(x) if wanted else None
    of_weight = torch.zeros(scaled.shape, dtype=torch.promote_types(x.dtype, torch.float32))
    for rows in _chunks(product):
        moved = torch.addcmul(level, product[rows], slope, out=spare.like(product[rows]))
        if real is not None:
            moved *= real[rows]
        moved += of_standard[rows]
        if of_x is not None:
            torch.mm(moved, scaled, out=of_x[rows])
        of_weight += _outer(moved, x[rows])
    return of_x, of_weight


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """left^T right, with the narrower side first: the other way takes eight times as long."""
    return left.T @ right if left.shape[1] <= right.shape[1] else (right.T @ left).T


class _Spare:
    """Memory for what one chunk needs in between."""

    def __init__(self, rows: Tensor) -> None:
        self._memory = rows.new_empty(min(ROWS, len(rows)), rows.shape[1])

    def like(self, rows: Tensor) -> Tensor:
        """As many rows."""
        if len(rows) > len(self._memory):
            self._memory = torch.empty_like(rows)
        return self._memory[: len(rows)]


def _chunks(rows: Tensor) -> list[slice]:
    return [slice(begin, begin + ROWS) for begin in range(0, len(rows), ROWS)]
