"""A process's part of a batch, cut in pieces that come one after the other where memory is short."""

from collections.abc import Iterator

import torch
from torch import Tensor

from jettag.data.jets import Jets
from jettag.models.precision import doubled
from jettag.training.distributed import World

__all__ = ["TINY", "Means", "Piece", "cut"]

Piece = tuple[Jets, Tensor | None, bool]  # its jets, what was drawn for them, whether it is the last

TINY = 1e-12  # weight of a batch in which nothing counts: its loss is 0 then, and not 0 / 0


def cut(jets: Jets, drawn: Tensor | None, parts: int) -> Iterator[Piece]:
    """This process's jets in pieces, with the rows drawn for them, and whether a piece is the last.

    They are dealt out jet by jet, so that all pieces are alike.

    Args:
        jets: this process's part of a batch.
        drawn: what was drawn for them.
        parts: pieces, none of which must be empty.
    """
    for part in range(parts):
        chosen = slice(part, None, parts)
        yield (
            jets if parts == 1 else jets.rows(chosen),
            drawn if parts == 1 or drawn is None else drawn[chosen],
            part + 1 == parts,
        )


class Means:
    """Weighted means of losses over the pieces of a batch and over all processes, kept on the device."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._names: list[str] = []
        self._sums: Tensor | None = None

    def add(self, losses: dict[str, Tensor], weight: Tensor) -> None:
        """Losses of a piece, and what each is a mean over, (K,)."""
        self._names = list(losses)
        weight = weight.to(doubled(weight))
        values = torch.stack([value.detach().to(weight.dtype) for value in losses.values()])
        piece = torch.stack([values * weight, weight])
        self._sums = piece if self._sums is None else self._sums + piece

    def finish(self) -> tuple[dict[str, Tensor], Tensor]:
        """Means of the whole batch, and the weight of its ``loss``, which is the first."""
        if self._sums is None:
            msg = "no piece was added"
            raise ValueError(msg)
        values, weights = self._world.sum(self._sums)
        weights = weights.clamp(min=TINY)
        return dict(zip(self._names, values / weights, strict=True)), weights[0]
