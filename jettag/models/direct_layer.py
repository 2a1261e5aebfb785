"""A linear layer over very many rows, the normalisation of its outputs, and a GELU, as one function with its gradient.

For a CPU, where passes over the outputs, some thousand rows at a time, take less than the product of all inputs with
themselves from which `pair_embedding` knows the mean and the variance elsewhere.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from jettag.models.synchronise import summed

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
        products = [x.new_empty(len(x), len(weight)) for x in pieces]
        spare = _Spare(products[0])
        first, second, count = weight.new_zeros(len(weight)), weight.new_zeros(len(weight)), weight.new_zeros(())
        for x, y, weights in zip(pieces, products, real, strict=True):
            count += len(x) if weights is None else weights.sum(dtype=count.dtype)
            for rows in _chunks(y):
                part = torch.mm(x[rows], matrix, out=y[rows])
                counted = part if weights is None else part * weights[rows]
                first += counted.sum(0, dtype=first.dtype)
                second += torch.mul(counted, part, out=spare.like(part)).sum(0, dtype=first.dtype)
        first, second, count = summed(first, second, count)
        count = count.clamp(min=1)
        mean = first / count
        variance = (second / count - mean.square()).clamp(min=0)
        rate = (variance + eps).rsqrt()
        scale = gain * rate
        shift = offset - mean * scale
        shift, factor = shift.to(dtype), scale.to(dtype)
        results = [torch.empty_like(y) for y in products]
        for y, result in zip(products, results, strict=True):
            for rows in _chunks(y):
                out = result[rows]
                standard = torch.addcmul(shift, y[rows], factor, out=spare.like(out) if activate else out)
                if activate:
                    torch.ops.aten.gelu.out(standard, out=out)
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
        spare = _Spare(products[0])
        of_standard = []
        first, second = torch.zeros_like(mean), torch.zeros_like(mean)
        for gradient, y in zip(gradients[3:], products, strict=True):
            gradient = gradient.contiguous()
            wanted = torch.empty_like(y) if ctx.activate else gradient  # type: ignore[attr-defined]
            for rows in _chunks(y):
                part = wanted[rows]
                if ctx.activate:  # type: ignore[attr-defined]
                    standard = torch.addcmul(shift, y[rows], factor, out=spare.like(part))
                    torch.ops.aten.gelu_backward.grad_input(gradient[rows], standard, grad_input=part)
                first += part.sum(0, dtype=first.dtype)
                second += torch.mul(part, y[rows], out=spare.like(part)).sum(0, dtype=first.dtype)
            of_standard.append(wanted)
        of_gain = (second - mean * first) * rate
        # Mean and variance are those of all processes; the gradients of gain and offset stay with their own.
        of_mean, of_spread = summed(first, of_gain)
        slope = -rate * of_spread / count
        level = -of_mean / count - slope * mean
        dtype = factor.dtype
        slope, level, scaled = slope.to(dtype), level.to(dtype), (weight * scale[:, None]).to(dtype)
        of_weight = torch.zeros_like(weight)
        of_pieces: list[Tensor | None] = []
        for place, (x, y, given) in enumerate(zip(pieces, products, of_standard, strict=True)):
            weights = ctx.real[place]  # type: ignore[attr-defined]
            of_x = torch.empty_like(x) if ctx.needs_input_grad[7 + place] else None  # type: ignore[attr-defined]
            for rows in _chunks(y):
                moved = torch.addcmul(level, y[rows], slope, out=spare.like(y[rows]))
                if weights is not None:
                    moved *= weights[rows]
                moved += given[rows]
                if of_x is not None:
                    torch.mm(moved, scaled, out=of_x[rows])
                of_weight += _outer(moved, x[rows])
            of_pieces.append(of_x)
        return of_weight * scale[:, None], torch.zeros_like(mean), of_gain, first, None, None, None, *of_pieces


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
