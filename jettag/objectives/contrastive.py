"""Contrastive learning of jets: two views of a jet shall lie together, views of different jets apart.

    l_ij = -s_ij / tau + log sum_{k != i} exp(s_ik / tau),  s the cosine of projected embeddings

averaged over both views of every jet (NT-Xent). With several processes the negatives are those of all of them.

References:
    Dillon et al., Symmetries, safety, and self-supervision, arXiv:2108.04253 (JetCLR: views, temperature 0.1).
    Chen et al., SimCLR, arXiv:2002.05709 (the loss, the projection head).
    Wang and Isola, arXiv:2005.10242 (alignment and uniformity).
    Garrido et al., RankMe, arXiv:2210.02885 (the rank of embeddings as a sign of collapse; theirs is an entropy).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jettag.config.objectives import ContrastiveRecipe
from jettag.data.jets import Jets
from jettag.data.transfer import sent
from jettag.models.batch_norm import RealBatchNorm
from jettag.models.particle_transformer import ParticleTransformer
from jettag.models.precision import doubled, unrounded, widened
from jettag.models.synchronise import gathered
from jettag.objectives.chance import Chance
from jettag.objectives.objective import Objective
from jettag.objectives.views import Views

__all__ = [
    "COLLAPSED",
    "Compared",
    "Contrastive",
    "alignment",
    "condition",
    "nt_xent",
    "rank",
    "side_by_side",
    "spread",
    "uniformity",
]

COLLAPSED = 0.1  # of `spread`: embeddings of all jets then lie within about 6 degrees of one direction
LINE = 1.2  # of `rank`: embeddings then lie on one line but for a tenth of their variance


def nt_xent(first: Tensor, second: Tensor, temperature: float, *, everyone: bool = False) -> Tensor:
    """The NT-Xent loss of two views, a mean over both views of every jet; in no half precision.

    Args:
        first: (B, D) projected embeddings of one view, on the unit sphere.
        second: (B, D) of the other.
        temperature: tau.
        everyone: take the negatives of all processes that train together.
    """
    own = widened(torch.cat([first, second]))
    others, begin = gathered(own) if everyone else (own, 0)
    with unrounded(own):
        similarity = own @ others.T / temperature
    rows = torch.arange(len(own), device=own.device)
    partner = begin + (rows + len(first)) % len(own)
    itself = rows[:, None] + begin == torch.arange(len(others), device=own.device)
    similarity = similarity.masked_fill(itself, -torch.inf)
    return F.cross_entropy(similarity.to(doubled(own)), partner)


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared distance of the two views of a jet, (B, D) each on the unit sphere: 0 is best."""
    return (first - second).square().sum(1).mean()


def uniformity(z: Tensor) -> Tensor:
    """Log of the mean of exp(-2 distance^2) over all pairs of (B, D): 0 where all are one, lower is more spread."""
    squared = (2 - 2 * z @ z.T).clamp(min=0)
    pairs = ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    logs = (-2 * squared).masked_fill(~pairs, -torch.inf).flatten()
    return torch.logsumexp(logs, 0) - torch.log(pairs.sum().clamp(min=1).to(z.dtype))


def spread(z: Tensor) -> Tensor:
    """Root of the variance of (B, D) unit vectors about their mean: 1 in all directions alike, 0 collapsed."""
    return (1 - z.mean(0).square().sum()).clamp(min=0).sqrt()


def rank(x: Tensor) -> Tensor:
    """Directions in which (B, D) embeddings vary: (sum of variances)^2 / sum of their squares, along principal axes.

    D where all directions vary alike, 1 on a line, 0 where nothing varies but rounding. Traces give it, without an
    eigenvalue.
    """
    centred = x - x.mean(0)
    covariance = centred.T @ centred
    rounding = (torch.finfo(x.dtype).eps * x.square().sum()).square() + torch.finfo(x.dtype).tiny
    return covariance.trace().square() / torch.maximum(covariance.square().sum(), rounding)


def side_by_side(first: Jets, second: Jets) -> Jets:
    """Both batches as one of 2B jets, so that the backbone runs once."""
    width = max(first.mask.shape[1], second.mask.shape[1])

    def widen(x: Tensor) -> Tensor:
        return F.pad(x, (*(0, 0) * (x.ndim - 2), 0, width - x.shape[1]))

    return Jets(*(torch.cat([widen(getattr(first, k)), widen(getattr(second, k))]) for k in ("features", "p4", "mask")))


class Projection(nn.Module):
    """(B, D) jet embeddings -> (B, P) points on the unit sphere, where the loss compares them.

    Batch normalisation takes away what the embeddings of all jets have in common. Without it strong augmentations push
    all views to one point first, and hundreds of steps pass before they part again (RESULTS.md).
    """

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            RealBatchNorm(dim), nn.Linear(dim, hidden), RealBatchNorm(hidden), nn.ReLU(), nn.Linear(hidden, out)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Project and normalise, in no half precision."""
        return F.normalize(widened(self.layers(x)), dim=1)


@dataclass(frozen=True)
class Compared:
    """What comparing a whole batch gives one of its pieces (`jettag.training.comparing`).

    Attributes:
        losses: of the whole batch, ``loss`` first; no gradient.
        pull: (b, 2, P), the gradient of that loss in the piece's points, times the batch's jets over the piece's.
    """

    losses: dict[str, Tensor]
    pull: Tensor

    def of(self, points: Tensor) -> dict[str, Tensor]:
        """Losses with the values of the whole batch and the gradients of this piece, (b, 2, P) ``points``."""
        pulled = (points * self.pull).sum()
        loss = self.losses["loss"] + (pulled - pulled.detach())
        weight = points.new_full((len(self.losses),), len(points))
        return {**self.losses, "loss": loss, "weight": weight}


class Contrastive(Objective):
    """The contrastive objective on a backbone.

    Args:
        backbone: encodes the views.
        recipe: augmentations, temperature, projection.
        feature_names: columns of the batches.
        max_constituents: slots of a jet; splitting fills them.
    """

    compares = True

    def __init__(
        self,
        backbone: ParticleTransformer,
        recipe: ContrastiveRecipe,
        feature_names: tuple[str, ...],
        max_constituents: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.views = Views(recipe.augmentations, feature_names, max_constituents)
        self.temperature = recipe.temperature
        self.projection = Projection(backbone.summary_dim, recipe.projection.hidden, recipe.projection.dim)

    def draw(self, jets: Jets, chance: Chance) -> Tensor:
        """(B, K) on the CPU: what is random in the two views."""
        return self.views.draw(jets, chance)

    def forward(
        self,
        jets: Jets,
        generator: torch.Generator | None = None,
        drawn: Tensor | None = None,
        *,
        look: bool = False,
        compared: Compared | None = None,
    ) -> dict[str, Tensor]:
        """Losses of a batch: ``loss``, ``alignment``, ``uniformity``, `condition`'s, and the ``weight`` of each: jets.

        Args:
            jets: the batch, or a piece of it.
            generator: of `draw`, where ``drawn`` is not given.
            drawn: from `draw`.
            look: give what `compare` asks for, and nothing else.
            compared: of the batch that this is a piece of.
        """
        numbers = self.draw(jets, generator or torch.default_generator) if drawn is None else drawn
        views = self.views(jets, sent(numbers, jets.mask.device))
        jet = self.backbone(side_by_side(*views)).summary
        points = self.project(jet)
        jet = jet[: len(points)]
        if look:
            return {"points": points, "jet": jet}
        return self.compare(points, jet) if compared is None else compared.of(points)

    def project(self, jet: Tensor) -> Tensor:
        """(2B, D) embeddings of both views, the first ones on top -> (B, 2, P)."""
        return torch.stack(self.projection(jet).chunk(2), dim=1)

    def compare(self, points: Tensor, jet: Tensor) -> dict[str, Tensor]:
        """Losses of (B, 2, P) projected views, in training against the negatives of all processes.

        Args:
            points: from `project`.
            jet: (B, D) embeddings of the first views, for their `condition`.
        """
        losses = contrast(points[:, 0], points[:, 1], self.temperature, everyone=self.training)
        losses |= condition(jet.detach())
        return losses | {"weight": points.new_full((len(losses),), len(points))}

    def alarm(self, losses: Mapping[str, float]) -> str | None:
        """A sentence where the embeddings have collapsed to a point or to a line."""
        seen = {name: losses.get(name, most) for name, most in (("spread", 1.0), ("rank", torch.inf))}
        if seen["spread"] >= COLLAPSED and seen["rank"] >= LINE:
            return None
        return (
            f"the embeddings have collapsed (spread {seen['spread']:.3f}, of at most 1; rank {seen['rank']:.1f}): all "
            "jets look alike; lower training.learning_rate, raise data.batch_size or objective.temperature"
        )


def condition(jet: Tensor) -> dict[str, Tensor]:
    """``spread`` and ``rank`` of (B, D) embeddings.

    Before the projection: its batch normalisation would pull apart even what lies nearly together.
    """
    jet = widened(jet)
    with unrounded(jet):
        return {"spread": spread(F.normalize(jet, dim=1)), "rank": rank(jet)}


def contrast(first: Tensor, second: Tensor, temperature: float, *, everyone: bool) -> dict[str, Tensor]:
    """Loss, alignment and uniformity of two projected views (B, P) each, a mean over B jets."""
    with unrounded(first), torch.no_grad():
        told = {"alignment": alignment(first, second), "uniformity": uniformity(first)}
    return {"loss": nt_xent(first, second, temperature, everyone=everyone), **told}
