"""The mass and the substructure of a whole jet, told from the constituents that are visible: targets without labels.

Masked constituents teach a backbone what stands where; they teach its jet embedding little. What physicists have long
told jets apart by is computed from the same constituents, in data as in simulation.

    loss = mean over the observables of smooth L1 between told and true, both standardised
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jettag.config.observables import RATIOS, columns_behind
from jettag.data.jets import Table
from jettag.errors import DataError

__all__ = ["Observables"]

LARGEST = 5.0  # standard deviations; beyond them a value counts as this


class Observables(nn.Module):
    """A small network from the jet embedding to the observables, and its loss.

    A ratio is taken as it is, any other observable x as sign(x) ln(1 + |x|), x in GeV where it has a unit. Mean and
    width of the training jets are buffers and travel with every checkpoint.

    Args:
        names: K of `jettag.config.observables.Observable`.
        dim: width D of the jet embedding.
        hidden: width of the layer in between.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, names: Sequence[str], dim: int, hidden: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self.columns = columns_behind(names)
        self.layers = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, len(self.names)))
        self.register_buffer("mean", torch.zeros(len(self.names)))
        self.register_buffer("std", torch.ones(len(self.names)))

    def prepare(self, table: Table) -> None:
        """Mean and width of each observable over the training jets that have it.

        Raises:
            DataError: no jet has one of them.
        """
        count, total, squares = (torch.zeros(len(self.names), dtype=torch.float64) for _ in range(3))
        for _, stored in table.scan(self.columns):
            columns = np.stack([stored[name].astype(np.float64) for name in self.columns], axis=1)
            values, known = self._values(torch.from_numpy(columns))
            count += known.sum(0)
            total += values.sum(0)
            squares += values.square().sum(0)
        for name, jets in zip(self.names, count.tolist(), strict=True):
            if not jets:
                raise DataError(
                    f"no training jet has a finite {name}", do="leave it out of objective.observables.names"
                )
        mean = total / count
        self.mean.copy_(mean)
        self.std.copy_((squares / count - mean.square()).clamp(min=1e-12).sqrt())

    def forward(self, jet: Tensor, columns: Tensor) -> Tensor:
        """(B, D) embeddings and (B, columns) of the batch -> (B,) loss; what a jet does not have counts as 0."""
        values, known = self._values(columns)
        target = ((values - self.mean) / self.std).clamp(-LARGEST, LARGEST)
        distance = F.smooth_l1_loss(self.layers(jet).float(), target, reduction="none")
        return (distance * known).mean(1)

    def _values(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """(B, columns) -> (B, K) observables before they are standardised, 0 where unknown, and (B, K) bool known."""
        found = []
        for name in self.names:
            if name in RATIOS:
                above, below = (columns[:, self.columns.index(column)] for column in RATIOS[name])
                found.append(above / below)  # not finite where a jet of few constituents has nothing to divide by
            else:
                column = columns[:, self.columns.index(name)]
                found.append(column.sign() * column.abs().log1p())
        values = torch.stack(found, dim=1)
        known = values.isfinite()
        return torch.where(known, values, 0.0), known
