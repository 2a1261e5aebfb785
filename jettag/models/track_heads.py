"""Heads that read tracks and pairs of tracks, each with the jet they are in as context.

The first layer of a pair is made of projections of single tracks, so that its matrices multiply N tracks and not
N (N - 1) / 2 pairs:

    z_ij = A x_i + A x_j + (P x_i) * (P x_j) + C g + b

which is the same for (i, j) and (j, i). A sum alone could not tell two alike tracks from two different ones with the
same sum; the product of projections can.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["PairHead", "TrackHead", "track_pairs"]


def track_pairs(track: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs i < j of the tracks of each jet.

    Args:
        track: (B, N) bool.

    Returns:
        jet, i and j of each pair, (P,) each.
    """
    upper = torch.ones(track.shape[1], track.shape[1], dtype=torch.bool, device=track.device).triu(1)
    jet, first, second = (track[:, :, None] & track[:, None] & upper).nonzero(as_tuple=True)
    return jet, first, second


def _rest(widths: Sequence[int], outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise([*widths, outputs]):
        layers += [nn.ReLU(), nn.Linear(before, after)]
    return nn.Sequential(*layers)


def _initialise(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class TrackHead(nn.Module):
    """Class logits of each track.

    Args:
        dim: width D of tracks and jets.
        num_classes: C.
        hidden: widths of the hidden layers.
    """

    def __init__(self, dim: int, num_classes: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.own = nn.Linear(dim, hidden[0])
        self.context = nn.Linear(dim, hidden[0], bias=False)
        self.rest = _rest(hidden, num_classes)
        _initialise(self)

    def forward(self, tracks: Tensor, jet: Tensor, owner: Tensor) -> Tensor:
        """(M, D) tracks, (B, D) jets, (M,) jet of each track -> (M, C)."""
        logits: Tensor = self.rest(self.own(self.norm(tracks)) + self.context(jet)[owner])
        return logits

    def dense(self, constituents: Tensor, jet: Tensor) -> Tensor:
        """(B, N, D), (B, D) -> (B, N, C), for programs without jettag; no shape depends on a mask."""
        logits: Tensor = self.rest(self.own(self.norm(constituents)) + self.context(jet)[:, None])
        return logits


class PairHead(nn.Module):
    """One logit for each pair of tracks, the same in either order.

    Args:
        dim: width D of tracks and jets.
        hidden: widths of the hidden layers.
    """

    def __init__(self, dim: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.own = nn.Linear(dim, hidden[0], bias=False)
        self.factor = nn.Linear(dim, hidden[0])
        self.context = nn.Linear(dim, hidden[0])
        self.rest = _rest(hidden, 1)
        _initialise(self)

    def forward(self, constituents: Tensor, jet: Tensor, pairs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Logits of some pairs.

        Args:
            constituents: (B, N, D).
            jet: (B, D).
            pairs: jet, i and j of each, (P,), as `track_pairs` gives.

        Returns:
            (P,).
        """
        owner, first, second = pairs
        normed, width = self.norm(constituents), constituents.shape[1]
        own, factor = (layer(normed).flatten(0, 1) for layer in (self.own, self.factor))
        i, j = owner * width + first, owner * width + second
        z = own[i] + own[j] + factor[i] * factor[j] + self.context(jet)[owner]
        logits: Tensor = self.rest(z).squeeze(-1)
        return logits

    def dense(self, constituents: Tensor, jet: Tensor) -> Tensor:
        """(B, N, D), (B, D) -> (B, N, N), for programs without jettag; no shape depends on a mask."""
        normed = self.norm(constituents)
        own, factor = self.own(normed), self.factor(normed)
        z = own[:, :, None] + own[:, None] + factor[:, :, None] * factor[:, None] + self.context(jet)[:, None, None]
        logits: Tensor = self.rest(z).squeeze(-1)
        return logits
