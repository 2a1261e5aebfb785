"""Discrete names for constituents: k-means centres in a standardised space of their features.

The target need not be reversible, only informative: arXiv:2409.12589 found plain k-means as good a target as a learned
tokenizer.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from jettag.errors import DataError, RecipeError
from jettag.models.precision import unrounded

__all__ = ["TOKEN_FEATURES", "KmeansTokens"]

# What is worth naming, of each published set: pT and direction, and where known charge, identity and displacement.
# Energy, relative pT and delta_r follow from these and the jet.
TOKEN_FEATURES = (
    "part_pt_log",
    "part_deta",
    "part_dphi",
    "part_charge",
    "part_isChargedHadron",
    "part_isNeutralHadron",
    "part_isPhoton",
    "part_isElectron",
    "part_isMuon",
    "part_d0",
    "part_dz",
)


class KmeansTokens(nn.Module):
    """Constituent features (M, F) -> token of the nearest centre (M,).

    Centres and scale are buffers and travel with every checkpoint.
    """

    mean: Tensor
    std: Tensor
    centres: Tensor
    columns: Tensor

    def __init__(self, feature_names: tuple[str, ...], num_codes: int) -> None:
        super().__init__()
        columns = [i for i, name in enumerate(feature_names) if name in TOKEN_FEATURES]
        if not columns:
            raise RecipeError(f"none of the features {', '.join(feature_names)} can be a masked-modelling target")
        self.register_buffer("columns", torch.tensor(columns))
        self.register_buffer("mean", torch.zeros(len(columns)))
        self.register_buffer("std", torch.ones(len(columns)))
        self.register_buffer("centres", torch.zeros(num_codes, len(columns)))

    def fit(self, features: npt.NDArray[np.float32], seed: int) -> None:
        """Fit the centres on ``features`` (M, F) of a sample of constituents."""
        num_codes = len(self.centres)
        x = features[:, self.columns.numpy()]
        if len(x) < num_codes:
            raise DataError(
                f"{len(x)} constituents cannot fill {num_codes} tokens", do="give more jets or lower target.codes"
            )
        mean, std = x.mean(0), x.std(0)
        std[std == 0] = 1.0
        from sklearn.cluster import MiniBatchKMeans  # seconds to import

        kmeans = MiniBatchKMeans(num_codes, batch_size=4096, n_init=1, random_state=seed, max_iter=20)
        kmeans.fit((x - mean) / std)
        self.mean.copy_(torch.from_numpy(mean))
        self.std.copy_(torch.from_numpy(std))
        self.centres.copy_(torch.from_numpy(kmeans.cluster_centers_.astype(np.float32)))

    @torch.no_grad()
    def forward(self, features: Tensor) -> Tensor:
        """(M, F) standardised features -> (M,) int64 tokens."""
        x = (features[:, self.columns].float() - self.mean) / self.std
        # |x - c|^2 without the |x|^2 that is the same for all centres: one matrix product.
        with unrounded(x):
            return (self.centres.square().sum(1) - 2 * x @ self.centres.T).argmin(1)
