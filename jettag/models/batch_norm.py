"""Batch normalisation that sees real entries only, over all processes, with sums that do not depend on their order."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from jettag.models.precision import doubled, widened
from jettag.models.synchronise import is_spread, summed

__all__ = ["RealBatchNorm"]


class RealBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of rows (M, K) whose statistics are those of the real rows.

    A batch with a single row has no spread: it is normalised with the running statistics, which it leaves alone.
    Where several processes train together, the rows of all of them are one batch.
    """

    def forward(self, x: Tensor, is_real: Tensor | None = None, *, scaled: bool = True) -> Tensor:
        """Normalise (M, K), in training in no half precision.

        Args:
            x: the rows.
            is_real: (M,) marks the rows that count; None for all.
            scaled: multiply by the weight and add the bias; without, a linear layer that follows may do it.
        """
        weight, bias = (self.weight, self.bias) if scaled else (None, None)
        if not self.training or not (len(x) > 1 or is_spread()):
            return F.batch_norm(x, self.running_mean, self.running_var, weight, bias, training=False, eps=self.eps)
        standard, mean, variance, count = _Standardised.apply(widened(x), is_real, self.eps)
        self.track(mean, variance, count)
        return standard if weight is None or bias is None else torch.addcmul(bias, standard, weight)

    @torch.no_grad()
    def track(self, mean: Tensor, variance: Tensor, count: Tensor | int) -> None:
        """Move the running statistics towards those of a batch of ``count`` rows.

        As PyTorch does, the running variance is the unbiased one while a batch is divided by the biased one.
        """
        count = torch.as_tensor(count, dtype=variance.dtype, device=variance.device)
        running_mean, running_variance = cast("Tensor", self.running_mean), cast("Tensor", self.running_var)
        momentum = 0.0 if self.momentum is None else self.momentum
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        unbiased = variance * count / (count - 1).clamp(min=1)
        running_variance.lerp_(unbiased.to(running_variance.dtype), momentum)
        cast("Tensor", self.num_batches_tracked).add_(1)


class _Standardised(torch.autograd.Function):
    """Rows (M, K) less their mean, over their width; and mean (K,), variance (K,) and number () of the real rows.

    Sums over rows are in double precision, where the device has it. Rows that differ little are divided by their
    differences, so what single precision rounds there shows in every digit but the first few; and it rounds otherwise
    in every other order, that of several processes for one.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, is_real: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide, share = doubled(x), None if is_real is None else is_real.to(x.dtype)[:, None]
        count = x.new_full((), len(x), dtype=wide) if share is None else share.sum(dtype=wide)
        total, count = summed(_counted(x, share).sum(0, dtype=wide), count)
        count = count.clamp(min=1)
        mean = total / count
        centred = x - mean.to(x.dtype)
        variance = summed(_counted(centred.square(), share).sum(0, dtype=wide))[0] / count
        scale = (variance + eps).rsqrt().to(x.dtype)
        standard = centred.mul_(scale)
        ctx.mark_non_differentiable(mean, variance, count)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(standard, scale, share, count)
        return standard, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None, None
        standard, scale, share, count = ctx.saved_tensors
        # Every row moves the mean and the width of all.
        sums = summed(gradient.sum(0, dtype=count.dtype), (gradient * standard).sum(0, dtype=count.dtype))
        of_mean, of_width = (part.div(count).to(gradient.dtype) for part in sums)
        moved = _counted(torch.addcmul(of_mean, standard, of_width), share)
        return (gradient - moved) * scale, None, None


def _counted(rows: Tensor, share: Tensor | None) -> Tensor:
    return rows if share is None else rows * share
