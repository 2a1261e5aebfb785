"""Sums over all processes of a training, so that a batch spread over them is normalised as one batch."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

__all__ = ["gathered", "is_spread", "summed"]


class _Sum(torch.autograd.Function):
    """The sum over all processes; each contributes to every process's loss, so gradients are summed as well."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:  # noqa: ARG004
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:  # noqa: ARG004
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def is_spread() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def summed(*parts: Tensor) -> tuple[Tensor, ...]:
    """Each tensor summed over all processes, in one exchange."""
    if not is_spread():
        return parts
    total: Tensor = _Sum.apply(torch.cat([part.flatten() for part in parts]))
    pieces = torch.split(total, [part.numel() for part in parts])
    return tuple(piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True))


def gathered(x: Tensor) -> tuple[Tensor, int]:
    """(B, D) of all processes one below the other, and the row at which one's own begin; gradients reach each.

    Processes may bring different numbers of rows.
    """
    if not is_spread():
        return x, 0
    rank = dist.get_rank()
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(x)]))  # between the hosts: nothing waits for a device
    counts = [int(size) for size in sizes]
    begin = sum(counts[:rank])
    place = F.pad(x, (0, 0, begin, sum(counts) - begin - len(x)))
    everyone: Tensor = _Sum.apply(place)
    return everyone, begin
