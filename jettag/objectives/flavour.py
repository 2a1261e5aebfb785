"""Flavour tagging: the class of a jet, the origin of each track, and which tracks share a vertex (ATLAS's GN2).

Each task's loss is a sum over what it looks at, divided by what it is a mean over, both of the whole batch:

    jet     cross entropy of jets        / sum of their weights, of classes and their own
    origin  cross entropy of tracks      / sum of their class weights; neutral constituents never count
    vertex  weighted binary cross entropy of pairs of tracks / pairs of one vertex, or all pairs; at least 1
    NAME    distance of a jet's number   / jets that have it

Where a batch has none of something its loss is 0, or for pairs their sum. The denominators are counted before a batch
is cut in pieces, so that pieces add up to what the whole batch would give. (A geometric mean of losses cannot: it is
taken in each piece.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jettag.config.flavour import ORIGINS, FlavourRecipe, RegressionTask
from jettag.data.jets import Jets
from jettag.data.transfer import sent
from jettag.models.adapters import draw_dropout
from jettag.models.heads import ClassHead
from jettag.models.particle_transformer import Encoded, ParticleTransformer
from jettag.models.precision import doubled, widened
from jettag.models.track_heads import PairHead, TrackHead, track_pairs
from jettag.objectives.chance import Chance, Shared
from jettag.objectives.classification import Classification

__all__ = ["CHARGE", "Flavour", "FlavourOutput", "pair_weight", "positive_pairs", "regression_target"]

CHARGE = "part_charge"  # the feature that tells tracks from neutral constituents
FAKE, FROM_B, FROM_C = ORIGINS.index("Fake"), ORIGINS.index("FromB"), ORIGINS.index("FromC")
PAIRS_AT_ONCE = 400_000  # in inference: 0.2 GB in the widest layer
TINY = 1e-12


@dataclass(frozen=True)
class FlavourOutput:
    """What the network says of a batch.

    Attributes:
        jet: (B, C) class probabilities in float64, which MPS has not: on the CPU.
        track: (B, N) bool, where there is a track.
        origin: (B, N, 8) probabilities of `ORIGINS`, zero without a track; None without that task.
        pair: (B, N, N) symmetric, that two tracks are from one vertex, zero elsewhere; None without that task.
        regression: (B, R) predicted numbers, ratios where the task has one; None without such tasks.
    """

    jet: Tensor
    track: Tensor
    origin: Tensor | None
    pair: Tensor | None
    regression: Tensor | None


def _at_least_something(counts: Tensor) -> Tensor:
    """What losses are divided by: 1 where there is nothing."""
    return torch.where(counts > 0, counts, 1.0)


def _moved(places: tuple[Tensor, ...], beside: Tensor) -> tuple[Tensor, ...]:
    """Places that were found on the CPU, on the device of another tensor; nothing waits."""
    return tuple(sent(place, beside.device) for place in places)


def positive_pairs(vertex: Tensor, track: Tensor) -> Tensor:
    """(B,) pairs of tracks with one vertex number; negative numbers never match."""
    known = track & (vertex >= 0)
    same = (vertex[:, :, None] == vertex[:, None]) & known[:, :, None] & known[:, None]
    return (same.sum((1, 2)) - known.sum(1)) // 2


def pair_weight(first: Tensor, second: Tensor, kind: str) -> Tensor:
    """(P,) weights of pairs by the origins of both tracks; ``kind`` as `VertexRecipe.pair_weights`."""
    weight = torch.ones(first.shape, device=first.device)
    if kind == "none":
        return weight
    heavy = [(origin >= FROM_B) & (origin <= FROM_C) for origin in (first, second)]
    fake = [origin == FAKE for origin in (first, second)]
    double = heavy[0] & heavy[1]
    if kind == "salt":
        double = double | (heavy[0] & fake[1]) | (fake[0] & heavy[1])
    return weight.masked_fill(double, 2.0).masked_fill(fake[0] & fake[1], 0.0)


def regression_target(
    columns: Tensor, names: Sequence[str], target: str, task: RegressionTask
) -> tuple[Tensor, Tensor]:
    """What a regression task aims at: (B,) numbers, 0 where a jet does not count, and (B,) bool where it does."""
    value = columns[:, names.index(target)]
    if task.relative_to is not None:
        value = value / columns[:, names.index(task.relative_to)]
    counts = value.isfinite() & ((value > 0) if task.logarithm or task.relative_to is not None else True)
    value = torch.where(counts, value, 1.0)
    return torch.where(counts, value.log() if task.logarithm else value, 0.0), counts


class Flavour(Classification):
    """Heads for jets, tracks and pairs on a backbone, and their losses.

    Args:
        backbone: encodes the jets.
        num_classes: C.
        feature_names: of the jets; `CHARGE` among them tells tracks, without it every constituent is one.
        recipe: which tasks, and how.
        origin_weight: of each of `ORIGINS` in the loss; ones where not given.
        options: of `Classification`.
    """

    origin_weight: Tensor
    task_weight: Tensor
    draws_from = ("features", "origin", "vertex")

    def __init__(
        self,
        backbone: ParticleTransformer,
        num_classes: int,
        *,
        feature_names: Sequence[str],
        recipe: FlavourRecipe,
        origin_weight: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(backbone, num_classes, label_smoothing=recipe.label_smoothing, **options)
        self.recipe = recipe
        self.charge = list(feature_names).index(CHARGE) if CHARGE in feature_names else None
        dim = backbone.dim
        self.origin = TrackHead(dim, len(ORIGINS), recipe.origin.hidden) if recipe.origin else None
        self.vertex = PairHead(dim, recipe.vertex.hidden) if recipe.vertex else None
        self.regression = ClassHead(dim, len(recipe.regression), hidden=(dim,)) if recipe.regression else None
        self.tasks = [
            "jet",
            *(["origin"] if recipe.origin else []),
            *(["vertex"] if recipe.vertex else []),
            *recipe.regression,
        ]
        weights = [1.0]
        weights += [part.weight for part in (recipe.origin, recipe.vertex, *recipe.regression.values()) if part]
        self.register_buffer("task_weight", torch.tensor(weights), persistent=False)
        if recipe.combine == "uncertainty":
            self.log_variance = nn.Parameter(-torch.tensor(weights).log())
        self.register_buffer("origin_weight", torch.tensor(origin_weight or [1.0] * len(ORIGINS)), persistent=False)
        self._on_host = {name: getattr(self, name).clone() for name in ("class_weight", "origin_weight")}

    def saved_settings(self) -> dict[str, Any]:
        """How `jettag.training.restore` builds the heads again."""
        return {**super().saved_settings(), "flavour": self.recipe.model_dump(mode="json")}

    def tracks(self, jets: Jets) -> Tensor:
        """(B, N) bool, where a constituent is a track."""
        return jets.mask if self.charge is None else jets.mask & (jets.features[..., self.charge] != 0)

    def encoded(self, jets: Jets) -> Encoded:
        """Embeddings of constituents and jets, without gradients where the backbone is frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            encoded: Encoded = self.backbone(jets)
            return encoded

    def jet_logits(self, encoded: Encoded, mask: Tensor) -> Tensor:
        """(B, C)."""
        logits: Tensor = self.head(encoded.constituents, mask) if self.attentive else self.head(encoded.summary)
        return widened(logits)

    def logits(self, jets: Jets) -> Tensor:
        """(B, C) unnormalised log-probabilities of the jet classes."""
        return self.jet_logits(self.encoded(jets), jets.mask)

    def draw(self, jets: Jets, chance: Chance) -> Tensor:
        """What a batch's losses rest on, (B, T + N) on the CPU.

        First the denominator of each task's loss over the whole batch, for each of its jets, in equal rows; then 1
        where a constituent is a track, so that no shape of `forward` has to be asked of the device.
        """
        jets = jets.to("cpu")
        counts, total = self._counts(jets), len(jets)
        if isinstance(chance, Shared):
            counts, total = chance.sum(counts), chance.total
        shared = (_at_least_something(counts).clamp(min=TINY) / total).expand(len(jets), -1)
        return torch.cat([shared, self.tracks(jets).to(shared.dtype)], dim=1)

    def _beside(self, name: str, x: Tensor) -> Tensor:
        """Weights of classes where ``x`` is, which for `draw` is the CPU: no step waits for a copy of them."""
        buffer: Tensor = getattr(self, name)
        return buffer if x.device == buffer.device else self._on_host[name].to(buffer.dtype)

    def _counts(self, jets: Jets) -> Tensor:
        """(T,) what the loss of each task is a mean over, of these jets."""
        found = [self.jet_weight(jets).sum()]
        track = self.tracks(jets)
        if self.recipe.origin is not None:
            origin = _present(jets.origin, "origin")
            weight = self._beside("origin_weight", origin)[origin.clamp(min=0)]
            found.append((weight * (track & (origin >= 0))).sum())
        if self.recipe.vertex is not None:
            if self.recipe.vertex.normalise == "positives":
                pairs = positive_pairs(_present(jets.vertex, "vertex"), track).sum()
            else:
                counts = track.sum(1)
                pairs = (counts * (counts - 1) // 2).sum()
            found.append(pairs)
        for target, task in self.recipe.regression.items():
            columns = _present(jets.columns, "columns")
            found.append(regression_target(columns, self.recipe.jet_columns, target, task)[1].sum())
        return torch.stack([value.to(found[0].dtype) for value in found])

    def jet_weight(self, jets: Jets) -> Tensor:
        """(B,) weight of each jet in the loss of jets: of its class, times its own where it has one."""
        weight = self._beside("class_weight", jets.mask)[self._label(jets)]
        return weight if jets.weight is None else weight * jets.weight

    def _label(self, jets: Jets) -> Tensor:
        return _present(jets.label, "label")

    def forward(
        self,
        jets: Jets,
        generator: torch.Generator | None = None,
        drawn: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """``loss``, ``TASK_loss`` of each task, ``accuracy`` and ``origin_accuracy``, and what they are means over."""
        drawn = self.draw(jets, generator or torch.default_generator) if drawn is None else drawn
        count = len(self.tasks)
        shared, is_track = sent(drawn[0, :count], jets.mask.device), drawn[:, count:] > 0
        draw_dropout(self.backbone)
        with self._updates_once():
            encoded = self.encoded(jets)
            logits = self.jet_logits(encoded, jets.mask)
        label = self._label(jets)
        smoothing = self.label_smoothing
        each = F.cross_entropy(logits, label, self.class_weight, label_smoothing=smoothing, reduction="none")
        sums = [(each if jets.weight is None else each * jets.weight).sum(dtype=doubled(each))]
        shares = {"accuracy": ((logits.argmax(1) == label).float().sum(), logits.new_full((), len(jets)))}
        if self.origin is not None:
            loss, right, known = self._origin_sums(encoded, jets, is_track)
            sums.append(loss)
            shares["origin_accuracy"] = (right, known)
        if self.vertex is not None:
            sums.append(self._vertex_sum(encoded, jets, is_track))
        if self.regression is not None:
            sums += self._regression_sums(encoded, jets)
        total = torch.stack(sums)
        own = _at_least_something(self._counts(jets))
        return {
            "loss": self._combined(total / (shared * len(jets))),
            **{f"{name}_loss": value for name, value in zip(self.tasks, (total / own).detach(), strict=True)},
            **{name: (part / whole.clamp(min=1)).detach() for name, (part, whole) in shares.items()},
            "weight": torch.cat(
                [own.new_full((1,), len(jets)), own, torch.stack([whole for _, whole in shares.values()])]
            ),
        }

    def _origin_sums(self, encoded: Encoded, jets: Jets, track: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Summed loss, tracks told right, and tracks with a known origin."""
        assert self.origin is not None
        owner, slot = _moved(track.nonzero(as_tuple=True), jets.mask)
        target = _present(jets.origin, "origin")[owner, slot]
        logits = widened(self.origin(encoded.constituents[owner, slot], encoded.jet, owner))
        each = F.cross_entropy(logits, target, self.origin_weight, ignore_index=-1, reduction="none")
        return each.sum(dtype=doubled(each)), (logits.argmax(1) == target).float().sum(), (target >= 0).float().sum()

    def _vertex_sum(self, encoded: Encoded, jets: Jets, track: Tensor) -> Tensor:
        assert self.vertex is not None
        assert self.recipe.vertex is not None
        owner, i, j = pairs = _moved(track_pairs(track), jets.mask)
        vertex = _present(jets.vertex, "vertex")
        same = (vertex[owner, i] == vertex[owner, j]) & (vertex[owner, i] >= 0)
        logits = widened(self.vertex(encoded.constituents, encoded.jet, pairs))
        kind = self.recipe.vertex.pair_weights
        origin = vertex if kind == "none" else _present(jets.origin, "origin")
        weight = pair_weight(origin[owner, i], origin[owner, j], kind)
        each = F.binary_cross_entropy_with_logits(logits, same.to(logits.dtype), weight, reduction="none")
        return each.sum(dtype=doubled(each))

    def _regression_sums(self, encoded: Encoded, jets: Jets) -> list[Tensor]:
        assert self.regression is not None
        found = []
        predicted = widened(self.regression(encoded.jet))
        for column, (target, task) in zip(predicted.unbind(1), self.recipe.regression.items(), strict=True):
            columns = _present(jets.columns, "columns")
            value, counts = regression_target(columns, self.recipe.jet_columns, target, task)
            distance = F.l1_loss if task.loss == "l1" else F.smooth_l1_loss
            each = distance(column, value.to(column.dtype), reduction="none") * counts
            found.append(each.sum(dtype=doubled(each)))
        return found

    def _combined(self, losses: Tensor) -> Tensor:
        """(T,) losses of the tasks -> what is minimised."""
        if self.recipe.combine == "geometric":
            present = losses.detach() > 0  # a task without anything to count is left out of the mean
            logs = torch.where(present, losses, 1.0).log()
            return (logs.sum() / present.sum().clamp(min=1)).exp()
        if self.recipe.combine == "uncertainty":
            return ((-self.log_variance).exp() * losses + self.log_variance).sum()
        return (losses * self.task_weight).sum()

    @torch.no_grad()
    def outputs(self, jets: Jets) -> FlavourOutput:
        """Probabilities of everything, in evaluation."""
        encoded = self.encoded(jets)
        track = self.tracks(jets)
        owner, slot = track.nonzero(as_tuple=True)
        origin = pair = None
        if self.origin is not None:
            values = torch.softmax(self.origin(encoded.constituents[owner, slot], encoded.jet, owner).float(), 1)
            origin = values.new_zeros(*track.shape, len(ORIGINS)).index_put((owner, slot), values)
        if self.vertex is not None:
            pairs = track_pairs(track)
            pieces = zip(*(torch.split(part, PAIRS_AT_ONCE) for part in pairs), strict=True)
            found = [torch.sigmoid(self.vertex(encoded.constituents, encoded.jet, piece).float()) for piece in pieces]
            pair = encoded.jet.new_zeros(*track.shape, track.shape[1], dtype=torch.float32)
            pair = pair.index_put(pairs, torch.cat(found) if found else pair.new_zeros(0))
            pair = pair + pair.transpose(1, 2)
        regression = None
        if self.regression is not None:
            raw = self.regression(encoded.jet).float().unbind(1)
            tasks = self.recipe.regression.values()
            regression = torch.stack([x.exp() if t.logarithm else x for x, t in zip(raw, tasks, strict=True)], 1)
        logits = self.jet_logits(encoded, jets.mask)
        return FlavourOutput(torch.softmax(logits.cpu().double(), 1), track, origin, pair, regression)


def _present(value: Tensor | None, name: str) -> Tensor:
    if value is None:
        msg = f"flavour tagging with this task needs jets with {name}"
        raise ValueError(msg)
    return value
