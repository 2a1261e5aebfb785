"""Random numbers of a batch, a row for each jet: the same for a jet however many processes share the batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Chance", "Shared", "normal", "uniform"]


@dataclass(frozen=True)
class Shared:
    """A generator that every process has alike, for a batch of which this one has some jets.

    Attributes:
        generator: on the CPU, in the same state everywhere.
        total: jets of the batch of all processes.
        places: (B,) of this process's jets in it.
        sum: over the processes, of a tensor on the CPU.
    """

    generator: torch.Generator
    total: int
    places: Tensor
    sum: Callable[[Tensor], Tensor]


Chance = torch.Generator | Shared | None


def uniform(shape: Sequence[int], chance: Chance) -> Tensor:
    """Flat in [0, 1), float32 on the CPU; the first of ``shape`` counts jets.

    Numbers are drawn for the whole batch and this process's rows are kept, a nanosecond for each: so little beside
    building and embedding jets that processes need not agree on anything but a seed.
    """
    if isinstance(chance, Shared):
        return torch.rand((chance.total, *shape[1:]), generator=chance.generator)[chance.places]
    return torch.rand(tuple(shape), generator=chance)


def normal(shape: Sequence[int], chance: Chance) -> Tensor:
    """As `uniform`, of the standard normal distribution."""
    if isinstance(chance, Shared):
        return torch.randn((chance.total, *shape[1:]), generator=chance.generator)[chance.places]
    return torch.randn(tuple(shape), generator=chance)
