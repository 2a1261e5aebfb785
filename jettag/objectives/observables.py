"""The mass and the substructure of a whole jet, told from the constituents that are visible: targets without labels.

Masked constituents teach a backbone what stands where; they teach its jet embedding little. What physicists have long
told jets apart by is computed from the same constituents, in data as in simulation.

    loss = mean over the observables of smooth L1 between told and true, both standardised
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jettag.config.observables import COMPUTED, RATIOS, columns_behind
from jettag.data.jets import Jets, Table
from jettag.errors import DataError, RecipeError
from jettag.models.precision import unrounded, widened
from jettag.physics.correlations import energy_correlations

__all__ = ["Observables"]

LARGEST = 5.0  # standard deviations; beyond them a value counts as this
DISPLACED = 3.0  # errors of d0
IMPACT = ("part_d0", "part_d0err")  # tanh d0 and the error of d0, in mm
SAMPLE, AT_ONCE = 20_000, 500  # jets whose constituents tell the scale of what is computed from them


class Observables(nn.Module):
    """A small network from the jet embedding to the observables, and its loss.

    A ratio is taken as it is, the logarithm of C2 and D2, and any other observable x as sign(x) ln(1 + |x|), x in GeV
    where it has a unit. Mean and width of the training jets are buffers and travel with every checkpoint.

    Args:
        names: K of `jettag.config.observables.Observable`.
        dim: width D of the jet embedding.
        hidden: width of the layer in between.
        feature_names: columns of the features, in which ``displaced`` looks for d0.

    Raises:
        RecipeError: displaced tracks are asked for, and the features have no d0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, names: Sequence[str], dim: int, hidden: int, feature_names: Sequence[str] = ()) -> None:
        super().__init__()
        self.names = tuple(names)
        self.computed = tuple(name for name in names if name in COMPUTED)
        if "displaced" in names and not {*IMPACT} <= {*feature_names}:
            what = "objective.observables.names: displaced needs d0 and its error among the features"
            raise RecipeError(what, do="choose data.features=jetclass_full, or leave it out")
        self.impact = [feature_names.index(name) for name in IMPACT] if "displaced" in names else []
        self.columns = columns_behind(names)
        self.layers = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, len(self.names)))
        self.register_buffer("mean", torch.zeros(len(self.names)))
        self.register_buffer("std", torch.ones(len(self.names)))

    def prepare(self, table: Table, *, seed: int) -> None:
        """Mean and width of each observable over the training jets that have it, of those computed over a sample.

        Raises:
            DataError: no jet has one of them.
        """
        count, total, squares = (torch.zeros(len(self.names), dtype=torch.float64) for _ in range(3))
        for values, where in self._known(table, seed):
            known = values.isfinite()
            values = torch.where(known, values, 0.0)
            count[where] += known.sum(0)
            total[where] += values.sum(0)
            squares[where] += values.square().sum(0)
        for name, jets in zip(self.names, count.tolist(), strict=True):
            if not jets:
                raise DataError(
                    f"no training jet has a finite {name}", do="leave it out of objective.observables.names"
                )
        mean = total / count
        self.mean.copy_(mean)
        self.std.copy_((squares / count - mean.square()).clamp(min=1e-12).sqrt())

    def forward(self, embedding: Tensor, jets: Jets) -> Tensor:
        """(B, D) embeddings of what was visible, and the whole jets -> (B,) loss; what a jet does not have counts as 0.

        The jets carry ``columns`` where an observable stands in files.
        """
        found = self._stored(jets.columns) if jets.columns is not None else {}
        found |= self._compute(jets)
        values = torch.stack([found[name] for name in self.names], dim=1)
        known = values.isfinite()
        target = ((torch.where(known, values, 0.0) - self.mean) / self.std).clamp(-LARGEST, LARGEST)
        distance = F.smooth_l1_loss(widened(self.layers(embedding)), target, reduction="none")
        return (distance * known).mean(1)

    def _known(self, table: Table, seed: int) -> Iterator[tuple[Tensor, list[int]]]:
        """(J, K') observables of the training jets, some jets at a time, and their K' places in ``names``."""
        if self.columns:
            stored = [name for name in self.names if name not in COMPUTED]
            for _, columns in table.scan(self.columns):
                one = torch.from_numpy(np.stack([columns[name].astype(np.float64) for name in self.columns], axis=1))
                yield _together(self._stored(one), stored), [self.names.index(name) for name in stored]
        if self.computed:
            order = np.random.default_rng(seed).permutation(len(table.block_sizes))
            needed = int(np.searchsorted(np.cumsum(table.block_sizes[order]), SAMPLE)) + 1
            loaded, rows = table.load(np.sort(order[:needed]))
            for begin in range(0, len(rows), AT_ONCE):
                found = self._compute(loaded.batch(rows[begin : begin + AT_ONCE]))
                yield _together(found, self.computed), [self.names.index(name) for name in self.computed]

    def _stored(self, columns: Tensor) -> dict[str, Tensor]:
        """(B, columns) -> observables (B,) before they are standardised; not finite where unknown."""
        found = {}
        for name in self.names:
            if name in RATIOS:
                above, below = (columns[:, self.columns.index(column)] for column in RATIOS[name])
                found[name] = above / below  # not finite where a jet of few constituents has nothing to divide by
            elif name not in COMPUTED:
                column = columns[:, self.columns.index(name)]
                found[name] = column.sign() * column.abs().log1p()
        return found

    @torch.no_grad()
    def _compute(self, jets: Jets) -> dict[str, Tensor]:
        """The same of what constituents tell."""
        found: dict[str, Tensor] = {}
        if "c2" in self.computed or "d2" in self.computed:
            with unrounded(jets.p4):
                two, three = energy_correlations(jets.p4.float(), jets.mask)
            found |= {"c2": three.log() - 2 * two.log(), "d2": three.log() - 3 * two.log()}
        if self.impact:
            d0, error = (jets.features[..., place].float() for place in self.impact)
            # The feature is tanh(d0), and tanh keeps order. Neutral constituents and padding have neither.
            found["displaced"] = (d0.abs() > (DISPLACED * error).tanh()).sum(1).float().log1p()
        return found


def _together(found: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    return torch.stack([found[name] for name in names], dim=1).double()
