"""A backbone for other features than it was trained on, matched by name, with the outputs it had.

Of the features it knows, each keeps its place in the input normalisation, the layer norm over features and the first
matrix, wherever it now stands. New ones would change that layer norm, so they pass it by: normalised on their own, they
join the output of the first matrix with zero weight. What is no longer there is replaced by its mean in training.

So where nothing is dropped, the adapted network's outputs are those of the old one, in training mode too; where a
feature is dropped, they are those of the old one for jets in which that feature has its training mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from jettag.models.particle_transformer import ParticleTransformer

__all__ = ["Adapted", "adapt_features"]


@dataclass(frozen=True)
class Adapted:
    """An adapted backbone, and the names of what it gained and lost."""

    backbone: ParticleTransformer
    new: tuple[str, ...]
    dropped: tuple[str, ...]


@torch.no_grad()
def adapt_features(backbone: ParticleTransformer, old: Sequence[str], new: Sequence[str]) -> Adapted:
    """The backbone, trained on features ``old``, for features ``new``; their order is free.

    An adapted backbone can be adapted again.
    """
    settings, new = backbone.settings(), list(new)
    slots = settings.get("feature_slots") or list(range(len(old)))
    names = [None if slot is None else old[slot] for slot in slots]
    moved = [new.index(name) if name in new else None for name in names]
    adapted = ParticleTransformer(**{**settings, "num_features": len(new), "feature_slots": moved})
    state = {name: value for name, value in backbone.state_dict().items() if ".joining" not in name}
    adapted.load_state_dict(state, strict=False)
    _keep_joining(backbone, adapted, old, new)
    return Adapted(
        adapted.train(backbone.training),
        new=tuple(name for name in new if name not in old),
        dropped=tuple(name for name in old if name not in new),
    )


def _keep_joining(before: ParticleTransformer, after: ParticleTransformer, old: Sequence[str], new: list[str]) -> None:
    """Carry over what an earlier adaptation let join: to its new column, or with its mean into the bias."""
    from_norm, from_linear = before.embedding.joining_norm, before.embedding.joining_linear
    to_norm, to_linear = after.embedding.joining_norm, after.embedding.joining_linear
    if from_norm is None or from_linear is None:
        return
    for place, column in enumerate(before.embedding.joining):
        if old[column] not in new:
            bias = cast("nn.Linear", after.embedding.layers[1]).bias
            bias.add_(from_linear.weight[:, place] * from_norm.bias[place])
            continue
        assert to_norm is not None  # this feature joins there, too
        assert to_linear is not None
        target = after.embedding.joining.index(new.index(old[column]))
        to_linear.weight[:, target] = from_linear.weight[:, place]
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(to_norm, name)[target] = getattr(from_norm, name)[place]
