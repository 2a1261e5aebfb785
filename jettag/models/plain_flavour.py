"""A flavour tagger as one plain function of padded arrays: jets, tracks and vertices."""

import math

import torch
from torch import Tensor

from jettag.models.heads import AttentiveHead, ClassHead
from jettag.models.particle_transformer import ParticleTransformer
from jettag.models.plain import PlainTagger
from jettag.models.track_heads import PairHead, TrackHead
from jettag.models.vertices import vertex_index

__all__ = ["PlainFlavour"]


class PlainFlavour(PlainTagger):
    """(features, p4, mask) -> the outputs named by `outputs`, in evaluation.

    Args:
        backbone: a network without low-rank updates.
        head: of the classes of jets.
        origin: head of tracks, or None.
        vertex: head of pairs, or None.
        charge: column of the charge, which tells tracks; None where every constituent is one.
        threshold: of the probability that two tracks are of one vertex.
        max_constituents: for which the vertices are sure to be complete.
    """

    def __init__(
        self,
        backbone: ParticleTransformer,
        head: ClassHead | AttentiveHead,
        *,
        origin: TrackHead | None,
        vertex: PairHead | None,
        charge: int | None,
        threshold: float,
        max_constituents: int,
    ) -> None:
        super().__init__(backbone, head)
        self.origin = origin
        self.vertex = vertex
        self.charge = charge
        self.threshold = threshold
        names = ["probabilities"]
        names += ["origin_probabilities"] if origin is not None else []
        names += ["vertex_probabilities", "vertex_index"] if vertex is not None else []
        self.outputs = tuple(names)
        self.squarings = max(math.ceil(math.log2(max(max_constituents - 1, 1))), 0)
        self.eval().requires_grad_(False)

    def forward(self, features: Tensor, p4: Tensor, mask: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Probabilities (B, C) of jets, (B, N, 8) of track origins, (B, N, N) of pairs; vertex numbers (B, N).

        Where there is no track, probabilities are 0 and numbers -1.

        Args:
            features: (B, N, F), standardised.
            p4: (B, N, 4), (px, py, pz, energy) in GeV.
            mask: (B, N) bool, True where there is a constituent.
        """
        encoded = self.encode(features, p4, mask)
        found = [torch.softmax(self.classes(encoded, mask).float(), dim=1)]
        x = encoded[0]
        jet = self.pool(x, mask)
        track = mask if self.charge is None else mask & (features[..., self.charge] != 0)
        x = x.masked_fill(~track[..., None], 0)
        if self.origin is not None:
            origin = torch.softmax(self.origin.dense(x, jet).float(), dim=-1)
            found.append(origin.masked_fill(~track[..., None], 0))
        if self.vertex is not None:
            place = torch.arange(track.shape[1], device=track.device)
            both = track[:, :, None] & track[:, None] & (place[:, None] != place)
            pair = torch.sigmoid(self.vertex.dense(x, jet).float()).masked_fill(~both, 0)
            found += [pair, vertex_index(pair, track, self.threshold, self.squarings)]
        return tuple(found)
