"""Two views of a jet, as JetCLR takes them (arXiv:2108.04253), on batches of `Jets`.

Each view is first boosted along the beam, which the published inputs cannot see. Then the order is the published
code's: both views are turned by angles of their own; the second is split collinearly and smeared; both are translated
by shifts of their own. Momenta and directions move, and the features that follow from them are computed again with the
constants of `jettag.data.features`. The jet keeps its pT, and its energy but for the boost; identity and displacement
stay with the constituent, and a child has its parent's.

Where it is asked for, each view first loses constituents at random, which the paper does not have: otherwise a jet's
other view is soon found by its hardest constituents, and the loss has little left to teach.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jettag.config.objectives import AugmentationRecipe
from jettag.data.features import FEATURE_SETS
from jettag.data.jets import Jets
from jettag.errors import RecipeError
from jettag.objectives.chance import Chance, normal, uniform
from jettag.physics.augmentations import moved, rotated, smeared, split, translated
from jettag.physics.kinematics import eta, pt

__all__ = ["Views"]

FEATURES = {feature.name: feature for chosen in FEATURE_SETS.values() for feature in chosen.features}
ANGLES, SHIFTS, BOOSTS = 2, 4, 2  # numbers a jet: an angle, two shifts and a pseudorapidity for each view
FIXED = ANGLES + SHIFTS + BOOSTS


@dataclass(frozen=True)
class Moved:
    """Where the constituents stand now: each (B, N); momenta in GeV."""

    pt: Tensor
    energy: Tensor
    jet_pt: Tensor
    jet_energy: Tensor
    deta: Tensor
    dphi: Tensor


# The features that follow from momenta and directions; all others stay with the constituent.
FOLLOWS: dict[str, Callable[[Moved], Tensor]] = {
    "part_pt_log": lambda c: c.pt.log(),
    "part_e_log": lambda c: c.energy.log(),
    "part_logptrel": lambda c: (c.pt / c.jet_pt).log(),
    "part_logerel": lambda c: (c.energy / c.jet_energy).log(),
    "part_deltaR": lambda c: torch.hypot(c.deta, c.dphi),
    "part_deta": lambda c: c.deta,
    "part_dphi": lambda c: c.dphi,
}


class Views:
    """Two views of every jet of a batch.

    Args:
        recipe: which augmentations, and how strong.
        feature_names: columns of the batches.
        slots: constituents a jet may have after splitting.

    Raises:
        RecipeError: the features lack the directions from the jet axis.
    """

    def __init__(self, recipe: AugmentationRecipe, feature_names: tuple[str, ...], slots: int) -> None:
        missing = [name for name in ("part_deta", "part_dphi") if name not in feature_names]
        if missing:
            raise RecipeError(f"contrastive views need the features {', '.join(missing)}", do="choose data.features")
        self.recipe = recipe
        self.names = feature_names
        self.slots = slots

    def draw(self, jets: Jets, chance: Chance) -> Tensor:
        """(B, K) on the CPU: all that is random in the views, one row a jet."""
        batch, width = jets.mask.shape
        widths = self._widths(width)
        splitting = 2 * sum(widths[:-1])
        drawn = [uniform((batch, FIXED + splitting), chance), normal((batch, 2 * widths[-1]), chance)]
        if self.recipe.dropping is not None:
            drawn.append(uniform((batch, 2 * width), chance))
        return torch.cat(drawn, dim=1)

    def num_drawn(self, jets: Jets) -> int:
        """K of what `draw` gives for a batch as wide as this one."""
        widths = self._widths(jets.mask.shape[1])
        return FIXED + 2 * sum(widths) + (0 if self.recipe.dropping is None else 2 * widths[0])

    def __call__(self, jets: Jets, drawn: Tensor) -> tuple[Jets, Jets]:
        """The two views, (B, N) and (B, N') constituents wide.

        Args:
            jets: the batch, real constituents first.
            drawn: (B, K) from `draw`, on the batch's device.
        """
        angles, shifts = drawn[:, :ANGLES], drawn[:, ANGLES : ANGLES + SHIFTS]
        widths = self._widths(jets.mask.shape[1])
        boosts, rest = drawn[:, ANGLES + SHIFTS : FIXED], drawn[:, FIXED : FIXED + 2 * sum(widths)]
        shares = 2 * shifts - 1
        side = self._side(jets)
        jets, original = self._dropped(jets, drawn)
        jets, whole = self._boosted(jets, boosts[:, :1], side)
        first = self._finish(jets, whole, self._turned(self._direction(jets), angles[:, 0]), shares[:, :2], side)

        again = self._turned(self._turned(self._direction(original), angles[:, 0]), angles[:, 1])
        other, whole = self._boosted(original, boosts[:, 1:], side)
        other = self._place(other, *again, side)
        for width in widths[:-1]:
            order, share, rest = rest[:, :width], rest[:, width : 2 * width], rest[:, 2 * width :]
            p4, features, mask = split(other.p4, other.features, other.mask, order, share, self.slots)
            other = replace(other, p4=p4, features=features, mask=mask)
        direction = self._direction(other)
        if self.recipe.smearing is not None:
            normal = rest.view(len(other), -1, 2)
            direction = smeared(*direction, pt(other.p4), normal, self.recipe.smearing)
        return first, self._finish(other, whole, direction, shares[:, 2:], side)

    def _turned(self, direction: tuple[Tensor, Tensor], share: Tensor) -> tuple[Tensor, Tensor]:
        """Directions turned by (B,) ``share`` of a full turn."""
        return rotated(*direction, 2 * math.pi * share) if self.recipe.rotation else direction

    def _dropped(self, jets: Jets, drawn: Tensor) -> tuple[Jets, Jets]:
        """What each view begins with: all constituents, or what is left of them, the hardest one at least."""
        if self.recipe.dropping is None:
            return jets, jets
        width = jets.mask.shape[1]
        kept = drawn[:, -2 * width :].view(len(jets), 2, width) >= self.recipe.dropping
        lost = ~(kept & jets.mask[:, None]).any(2, keepdim=True)
        kept = kept | (lost & (torch.arange(width, device=kept.device) == 0))
        return jets.keep(kept[:, 0], width), jets.keep(kept[:, 1], width)

    def _widths(self, width: int) -> list[int]:
        """Constituents before each splitting, and after the last."""
        widths = [width]
        for _ in range(self.recipe.splitting):
            widths.append(max(min(2 * widths[-1], self.slots), widths[-1]))
        return widths

    def _direction(self, jets: Jets) -> tuple[Tensor, Tensor]:
        return (
            jets.features[..., self.names.index("part_deta")].float(),
            jets.features[..., self.names.index("part_dphi")].float(),
        )

    def _side(self, jets: Jets) -> Tensor:
        """(B, 1) the sign of the jet's pseudorapidity, by which deta was multiplied.

        Seen from how deta runs with pseudorapidity; a single constituent lies on its jet's side.
        """
        deta, _ = self._direction(jets)
        direction = eta(jets.p4).masked_fill(~jets.mask, 0.0)
        count = jets.mask.sum(1, keepdim=True).clamp(min=1)
        from_mean = (direction - direction.sum(1, keepdim=True) / count).masked_fill(~jets.mask, 0.0)
        slope = (from_mean * deta).sum(1, keepdim=True)
        slope = torch.where(jets.mask.sum(1, keepdim=True) > 1, slope, direction[:, :1])
        return torch.where(slope < 0, -1.0, 1.0)

    def _place(self, jets: Jets, deta: Tensor, dphi: Tensor, side: Tensor) -> Jets:
        """The constituents at new directions, momenta moved along; only the directions among the features."""
        before = self._direction(jets)
        p4 = moved(jets.p4, side * (deta - before[0]), dphi - before[1]) * jets.mask[..., None]
        features = jets.features.clone()
        for name, values in (("part_deta", deta), ("part_dphi", dphi)):
            features[..., self.names.index(name)] = (values * jets.mask).to(features.dtype)
        return replace(jets, p4=p4, features=features)

    def _boosted(self, jets: Jets, share: Tensor, side: Tensor) -> tuple[Jets, tuple[Tensor, Tensor]]:
        """The jets at other pseudorapidities on their side of the beam, and their pT and energy, (B, 1) each in GeV.

        Directions from the axis stay, so that no picture changes; (B, 1) ``share`` of the largest is where a jet goes.
        """
        jet_pt = self._whole(jets, "part_logptrel", pt(jets.p4))
        jet_energy = self._whole(jets, "part_logerel", jets.p4[..., 3])
        if self.recipe.boost is None:
            return jets, (jet_pt, jet_energy)
        before = eta(jets.p4)[:, :1] - side * self._direction(jets)[0][:, :1]
        after = side * self.recipe.boost * share
        transverse_mass2 = (jet_energy.square() - (jet_pt * before.sinh()).square()).clamp(min=0)
        p4 = moved(jets.p4, (after - before) * jets.mask, torch.zeros_like(jets.p4[..., 0])) * jets.mask[..., None]
        return replace(jets, p4=p4), (jet_pt, (transverse_mass2 + (jet_pt * after.sinh()).square()).sqrt())

    def _finish(
        self, view: Jets, whole: tuple[Tensor, Tensor], direction: tuple[Tensor, Tensor], share: Tensor, side: Tensor
    ) -> Jets:
        """Translate, and compute what follows from momenta and directions."""
        if self.recipe.translation is not None:
            direction = translated(*direction, view.mask, share, self.recipe.translation)
        view = self._place(view, *direction, side)
        deta, dphi = self._direction(view)
        transverse = torch.where(view.mask, pt(view.p4), 1.0)
        energy = torch.where(view.mask, view.p4[..., 3], 1.0)
        now = Moved(
            transverse,
            energy,
            *whole,
            deta,
            dphi,
        )
        features = view.features
        for column, name in enumerate(self.names):
            if name in FOLLOWS:
                values = FOLLOWS[name](now)
                scale = FEATURES[name].standardise
                if scale is not None:
                    subtract, multiply, lowest, highest = scale
                    values = ((values - subtract) * multiply).clamp(lowest, highest)
                features[..., column] = torch.where(view.mask, values, 0.0).to(features.dtype)
        return replace(view, features=features)

    def _whole(self, jets: Jets, name: str, part: Tensor) -> Tensor:
        """(B, 1) of the jet, from its hardest constituent and that one's share; ones where no feature needs it."""
        scale = FEATURES[name].standardise
        if name not in self.names or scale is None:
            return torch.ones_like(part[:, :1])
        share = (jets.features[:, :1, self.names.index(name)].float() / scale[1] + scale[0]).exp()
        return part[:, :1] / share
