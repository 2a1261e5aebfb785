"""What a constituent is, as numbers and as a name: the continuous features that targets predict, and its identity.

Impact parameters exist for charged constituents only. A neutral's are left out of every loss, never predicted as zero:
a network would otherwise learn to copy what the charge says already.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from jettag.data.transfer import sent
from jettag.errors import RecipeError

__all__ = ["IDENTITIES", "IMPACT", "KINEMATIC", "Quantities", "has_identity", "identity_of"]

KINEMATIC = ("part_pt_log", "part_deta", "part_dphi")  # the mass is small, so energy follows
IMPACT = ("part_d0", "part_d0err", "part_dz", "part_dzerr")
LARGEST = 5.0  # standard deviations; beyond them a value counts as this

# The eight of arXiv:2409.12589, and what no flag names.
IDENTITIES = ("h-", "h+", "neutral hadron", "photon", "e-", "e+", "mu-", "mu+", "other")
FLAGS = ("part_isChargedHadron", "part_isNeutralHadron", "part_isPhoton", "part_isElectron", "part_isMuon")
CHARGE = "part_charge"
FIRST_OF_FLAG = (0, 2, 3, 4, 6, 8)  # place in IDENTITIES of each flag's first, then of no flag
SIGNED = (1, 0, 0, 1, 1, 0)  # whether a positive charge is the next one


def has_identity(feature_names: Sequence[str]) -> bool:
    """Whether the features tell identities."""
    return {*FLAGS, CHARGE} <= set(feature_names)


def identity_of(features: Tensor, feature_names: Sequence[str]) -> Tensor:
    """(M, F) features -> (M,) int64 place in `IDENTITIES`."""
    flags = torch.stack([features[:, feature_names.index(name)] for name in FLAGS], dim=1)
    species = torch.cat([flags, torch.full_like(flags[:, :1], 0.5)], dim=1).argmax(1)
    first, signed = (sent(torch.tensor(values), species.device) for values in (FIRST_OF_FLAG, SIGNED))
    positive = features[:, feature_names.index(CHARGE)] > 0
    return first[species] + signed[species] * positive


class Quantities(nn.Module):
    """Features (M, F) -> standardised values (M, K) and which of them count (M, K).

    Mean and width are buffers and travel with every checkpoint; those of impact parameters are of charged
    constituents.

    Args:
        feature_names: columns of the features.
        impact: impact parameters too, where the features have them all and the charge.

    Raises:
        RecipeError: pT or direction is not among the features.
    """

    mean: Tensor
    std: Tensor
    columns: Tensor
    is_impact: Tensor

    def __init__(self, feature_names: tuple[str, ...], *, impact: bool = True) -> None:
        super().__init__()
        missing = [name for name in KINEMATIC if name not in feature_names]
        if missing:
            raise RecipeError(f"masked modelling predicts {', '.join(missing)}, which the features do not have")
        known = impact and {*IMPACT, CHARGE} <= set(feature_names)
        self.names = KINEMATIC + (IMPACT if known else ())
        self.charge = feature_names.index(CHARGE) if known else None
        self.register_buffer("columns", torch.tensor([feature_names.index(name) for name in self.names]))
        self.register_buffer("is_impact", torch.tensor([name in IMPACT for name in self.names]))
        self.register_buffer("mean", torch.zeros(len(self.names)))
        self.register_buffer("std", torch.ones(len(self.names)))

    def __len__(self) -> int:
        return len(self.names)

    def fit(self, features: npt.NDArray[np.float32]) -> None:
        """Mean and width from ``features`` (M, F) of a sample of constituents."""
        x = torch.from_numpy(features).double()
        for place, column in enumerate(self.columns.tolist()):
            values = x[:, column]
            if self.is_impact[place] and self.charge is not None:
                values = values[x[:, self.charge] != 0]
            if len(values):
                self.mean[place] = values.mean()
                std = values.std(correction=0)
                self.std[place] = std if std > 0 else 1.0

    @torch.no_grad()
    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised values, and 1 where a value counts, 0 for impact parameters of neutrals."""
        x = features.float()
        values = ((x.index_select(1, self.columns) - self.mean) / self.std).clamp(-LARGEST, LARGEST)
        if self.charge is None:
            return values, torch.ones_like(values)
        charged = x[:, self.charge, None] != 0
        return values, (charged | ~self.is_impact).to(values.dtype)
