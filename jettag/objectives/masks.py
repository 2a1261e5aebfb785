"""Which constituents of a jet masked modelling hides.

One rule for all patterns: of n constituents round(fraction n) are hidden, at least one and at most n - 1; a jet of one
constituent hides none. ``pt_fraction`` and ``radius`` hide fewer where their own limit comes first. Everything happens
on the CPU, before a batch is cut or uploaded, so that the draw is the same on every device.

References:
    Leigh et al., arXiv:2409.12589, whose code has the same families: random, by pT, nearest neighbours, radius.
"""

from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor

from jettag.config.objectives import MaskPattern
from jettag.data.jets import Jets
from jettag.objectives.chance import Chance, uniform
from jettag.physics.kinematics import delta_r, pt

__all__ = ["PATTERNS", "draw_hidden", "hide"]

LAST = torch.inf  # rank of what cannot be hidden

# A pattern: (jets, uniform numbers (B, N)) -> what is hidden first (B, N), ascending. NaN nowhere.
Order = Callable[[Jets, Tensor], Tensor]


def _random(jets: Jets, numbers: Tensor) -> Tensor:  # noqa: ARG001
    return numbers


def _pt_weighted(jets: Jets, numbers: Tensor) -> Tensor:
    """Draws without replacement with probabilities proportional to pT (Efraimidis and Spirakis 2006)."""
    return -torch.log(numbers.clamp(min=torch.finfo(numbers.dtype).tiny)) / pt(jets.p4).clamp(min=1e-6)


def _hardest(jets: Jets, numbers: Tensor) -> Tensor:  # noqa: ARG001
    return -pt(jets.p4)


def _blob(jets: Jets, numbers: Tensor) -> Tensor:
    """Distance in (eta, phi) to a constituent drawn at random, which comes first itself."""
    centre = numbers.masked_fill(~jets.mask, LAST).argmin(1, keepdim=True)
    at = jets.p4.gather(1, centre[..., None].expand(-1, -1, 4))
    distance = delta_r(jets.p4, at).nan_to_num(LAST, LAST)
    return distance.scatter(1, centre, -1.0)


PATTERNS: dict[MaskPattern, Order] = {
    "random": _random,
    "pt_fraction": _random,
    "pt_weighted": _pt_weighted,
    "hardest": _hardest,
    "nearest": _blob,
    "radius": _blob,
}
assert set(PATTERNS) == set(get_args(MaskPattern))


def hide(order: Tensor, mask: Tensor, number: Tensor) -> Tensor:
    """The ``number`` (B,) real constituents that come first in ``order`` (B, N), as (B, N) bool."""
    rank = order.masked_fill(~mask, LAST).argsort(dim=1, stable=True).argsort(dim=1)
    chosen: Tensor = (rank < number[:, None]) & mask
    return chosen


def draw_hidden(
    jets: Jets,
    fraction: float,
    chance: Chance = None,
    *,
    pattern: MaskPattern = "random",
    radius: float = 0.1,
) -> Tensor:
    """Choose what is hidden.

    Args:
        jets: the batch, on the CPU.
        fraction: of each jet's real constituents; of its pT for ``pt_fraction``.
        chance: of the random numbers.
        pattern: ``random``; ``pt_weighted``, at random with chances proportional to pT; ``hardest``, the leading ones;
            ``pt_fraction``, in random order for as long as they hold no more than ``fraction`` of the jet's summed pT;
            ``nearest``, one at random and its nearest neighbours; ``radius``, those of them that lie within ``radius``.
        radius: in (eta, phi), of the pattern of that name.

    Returns:
        (B, N) bool, a subset of ``jets.mask`` that leaves at least one constituent visible.
    """
    mask = jets.mask
    count = mask.sum(1)
    order = PATTERNS[pattern](jets, uniform(mask.shape, chance))
    if pattern == "pt_fraction":
        by_order = order.masked_fill(~mask, LAST).argsort(dim=1, stable=True)
        hidden_pt = (pt(jets.p4) * mask).gather(1, by_order).cumsum(1)
        allowed = (hidden_pt <= fraction * hidden_pt[:, -1:]) & mask.gather(1, by_order)
        number = allowed.sum(1)
    else:
        number = torch.round(count * fraction).long()
        if pattern == "radius":
            number = torch.minimum(number, ((order <= radius) & mask).sum(1))
    return hide(order, mask, torch.minimum(number.clamp(min=1), count - 1).clamp(min=0))
