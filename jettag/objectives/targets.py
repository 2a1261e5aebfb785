"""What masked modelling predicts of a hidden constituent: tokens, numbers, or the velocity of a flow towards them.

Legend: M hidden constituents of a batch, W width of the decoder, K continuous quantities. Every target gives a loss
for each hidden constituent; `MaskedModelling` averages over those of a jet and then over jets.

References:
    Leigh et al., arXiv:2409.12589 (regression, conditional flow matching for each constituent, set-to-set flow
    matching, identities with label smoothing); Lipman et al., arXiv:2210.02747 (flow matching).
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jettag.data.jets import Jets, Table
from jettag.models.precision import unrounded, widened
from jettag.objectives.chance import Chance, normal
from jettag.objectives.quantities import IDENTITIES, Quantities, has_identity, identity_of
from jettag.objectives.tokenizer import Tokenizer
from jettag.objectives.tokens import KmeansTokens

__all__ = ["Flow", "IdentityHead", "KmeansTarget", "Regression", "SetFlow", "Target", "VqvaeTarget", "chosen"]

SMOOTHING, CODE_SMOOTHING = 0.1, 0.05  # of labels: identities, and codes of a tokenizer (arXiv:2409.12589)
FREQUENCIES = 8  # sines and cosines of 2 pi k t, k = 1 ... 8, tell the time


def chosen(jets: Jets, rows: Tensor) -> Tensor:
    """(M, F) features of the constituents at ``rows`` of the flattened batch."""
    return jets.features.flatten(0, 1).index_select(0, rows)


class Target(nn.Module, ABC):
    """What is predicted, with the head that predicts it."""

    def settings(self) -> dict[str, Any]:
        """What a checkpoint must say of the target; plain JSON."""
        return {}

    def prepare(self, table: Table, *, seed: int) -> None:
        """Fit what must be known before the first step, on the training jets."""

    def draw(self, mask: Tensor, chance: Chance) -> Tensor | None:  # noqa: ARG002
        """Numbers for each slot of a (B, N) batch, (B, N, Z) float32 on the CPU; None where the loss has no chance."""
        return None

    def query(self, jets: Jets, rows: Tensor, drawn: Tensor | None) -> Tensor | None:  # noqa: ARG002
        """What a `SetDecoder` is told of each hidden constituent, (M, W); None for a `SlotDecoder`."""
        return None

    @abstractmethod
    def forward(self, decoded: Tensor, jets: Jets, rows: Tensor, drawn: Tensor | None) -> dict[str, Tensor]:
        """``loss`` first, then metrics, each (M,).

        Args:
            decoded: (M, W).
            jets: the whole batch.
            rows: (M,) positions of the hidden constituents in it.
            drawn: (M, Z) of what `draw` returned.
        """


def _classified(logits: Tensor, label: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Cross entropy and whether the best guess is right, each (M,)."""
    loss = F.cross_entropy(widened(logits), label, reduction="none", label_smoothing=smoothing)
    return loss, (logits.argmax(1) == label).float().detach()


class KmeansTarget(Target):
    """The token of the nearest k-means centre: cross entropy."""

    def __init__(self, feature_names: tuple[str, ...], width: int, *, num_codes: int, fit_constituents: int) -> None:
        super().__init__()
        self.tokens = KmeansTokens(feature_names, num_codes)
        self.fit_constituents = fit_constituents
        self.head = nn.Linear(width, num_codes)

    def prepare(self, table: Table, *, seed: int) -> None:
        """Fit the centres."""
        self.tokens.fit(table.sample_features(self.fit_constituents, seed), seed)

    def forward(self, decoded: Tensor, jets: Jets, rows: Tensor, drawn: Tensor | None) -> dict[str, Tensor]:  # noqa: ARG002
        """Cross entropy in nats and accuracy."""
        loss, right = _classified(self.head(decoded), self.tokens(chosen(jets, rows)), 0.0)
        return {"loss": loss, "token_accuracy": right}


class VqvaeTarget(Target):
    """The code that a trained tokenizer gives, with the whole jet before it: cross entropy with label smoothing.

    Args:
        tokenizer: frozen from here on; it travels with every checkpoint and no parameter of it learns.
        width: W.
        sha256: of the tokenizer's tensors.
    """

    def __init__(self, tokenizer: Tokenizer, width: int, *, sha256: str) -> None:
        super().__init__()
        self.tokenizer = tokenizer.requires_grad_(False).eval()
        self.sha256 = sha256
        self.head = nn.Linear(width, tokenizer.num_codes)

    def train(self, mode: bool = True) -> "VqvaeTarget":
        """Training mode for the head alone."""
        super().train(mode)
        self.tokenizer.eval()
        return self

    def settings(self) -> dict[str, Any]:
        """The tokenizer and its checksum."""
        return {"tokenizer": self.tokenizer.settings() | {"sha256": self.sha256}}

    def forward(self, decoded: Tensor, jets: Jets, rows: Tensor, drawn: Tensor | None) -> dict[str, Tensor]:  # noqa: ARG002
        """Cross entropy in nats and accuracy."""
        label = self.tokenizer.tokens(jets).flatten().index_select(0, rows)
        loss, right = _classified(self.head(decoded), label, CODE_SMOOTHING)
        return {"loss": loss, "token_accuracy": right}


class IdentityHead(nn.Module):
    """Which of `IDENTITIES` a hidden constituent is: cross entropy with label smoothing."""

    def __init__(self, feature_names: tuple[str, ...], width: int, *, smoothing: float = SMOOTHING) -> None:
        super().__init__()
        self.feature_names = feature_names
        self.smoothing = smoothing
        self.head = nn.Linear(width, len(IDENTITIES))

    def forward(self, decoded: Tensor, jets: Jets, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(M,) loss in nats, (M,) right or wrong."""
        return _classified(self.head(decoded), identity_of(chosen(jets, rows), self.feature_names), self.smoothing)


class _Continuous(Target):
    """What all targets in standardised quantities share."""

    def __init__(self, feature_names: tuple[str, ...], *, impact: bool, fit_constituents: int) -> None:
        super().__init__()
        self.feature_names = feature_names
        self.quantities = Quantities(feature_names, impact=impact)
        self.fit_constituents = fit_constituents

    def prepare(self, table: Table, *, seed: int) -> None:
        """Fit mean and width of the quantities."""
        self.quantities.fit(table.sample_features(self.fit_constituents, seed))


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """(M, K) -> (M,), over what counts; pT and direction always do."""
    return (values * counted).sum(1) / counted.sum(1)


class Regression(_Continuous):
    """The standardised quantities themselves: absolute error, or smooth L1 (Huber with width 1)."""

    def __init__(
        self, feature_names: tuple[str, ...], width: int, *, impact: bool, smooth: bool, fit_constituents: int
    ) -> None:
        super().__init__(feature_names, impact=impact, fit_constituents=fit_constituents)
        self.smooth = smooth
        self.head = nn.Linear(width, len(self.quantities))

    def forward(self, decoded: Tensor, jets: Jets, rows: Tensor, drawn: Tensor | None) -> dict[str, Tensor]:  # noqa: ARG002
        """The loss, and the absolute error in standard deviations."""
        values, counted = self.quantities(chosen(jets, rows))
        found = widened(self.head(decoded))
        error = (found - values).abs()
        loss = F.smooth_l1_loss(found, values, reduction="none") if self.smooth else error
        return {"loss": _mean(loss, counted), "absolute_error": _mean(error.detach(), counted)}


def _times(shape: tuple[int, ...], chance: Chance) -> Tensor:
    """Times in (0, 1): the sigmoid of a standard normal number (arXiv:2409.12589)."""
    return normal(shape, chance).sigmoid()


def _waves(time: Tensor) -> Tensor:
    """(M, 1) times -> (M, 2 FREQUENCIES)."""
    angle = 2 * math.pi * time * torch.arange(1, FREQUENCIES + 1, device=time.device)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def _mixed(values: Tensor, counted: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """(1 - t) values + t noise; what does not count gets noise of the width this has, which gives nothing away."""
    width = ((1 - time).square() + time.square()).sqrt()
    return torch.where(counted > 0, (1 - time) * values + time * noise, width * noise)


class Flow(_Continuous):
    """Conditional flow matching for each constituent by itself: v(x_t, t | decoder output), x_t = (1 - t) x + t noise.

    The target is the velocity noise - x; its network runs in no half precision.
    """

    def __init__(
        self,
        feature_names: tuple[str, ...],
        width: int,
        *,
        impact: bool,
        hidden_width: int,
        layers: int,
        fit_constituents: int,
    ) -> None:
        super().__init__(feature_names, impact=impact, fit_constituents=fit_constituents)
        count = len(self.quantities)
        steps: list[nn.Module] = []
        before = width + count + 2 * FREQUENCIES
        for _ in range(layers):
            steps += [nn.Linear(before, hidden_width), nn.SiLU()]
            before = hidden_width
        self.velocity = nn.Sequential(*steps, nn.Linear(before, count))

    def draw(self, mask: Tensor, chance: Chance) -> Tensor:
        """(B, N, K + 1): noise and a time for each constituent."""
        noise = normal((*mask.shape, len(self.quantities)), chance)
        return torch.cat([noise, _times((*mask.shape, 1), chance)], dim=-1)

    def forward(self, decoded: Tensor, jets: Jets, rows: Tensor, drawn: Tensor | None) -> dict[str, Tensor]:
        """Mean squared error of the velocity."""
        if drawn is None:
            msg = "a flow needs the noise that `draw` gives"
            raise ValueError(msg)
        values, counted = self.quantities(chosen(jets, rows))
        noise, time = drawn[:, :-1], drawn[:, -1:]
        mixed = _mixed(values, counted, noise, time)
        with unrounded(decoded):
            found = self.velocity(torch.cat([widened(decoded), mixed, _waves(time)], dim=1))
        return {"loss": _mean((found - (noise - values)).square(), counted)}


class SetFlow(_Continuous):
    """Set-to-set flow matching: the hidden constituents flow together from noise, given what the encoder saw.

    A constituent is its K quantities and, where the features tell, its identity as one number for each name, 0 or 1.
    All of a jet share one time; a `SetDecoder` sees the noisy set, and gives the velocity noise - x.
    """

    def __init__(
        self, feature_names: tuple[str, ...], width: int, *, impact: bool, identity: bool, fit_constituents: int
    ) -> None:
        super().__init__(feature_names, impact=impact, fit_constituents=fit_constituents)
        self.names_too = identity and has_identity(feature_names)
        self.size = len(self.quantities) + (len(IDENTITIES) if self.names_too else 0)
        self.embed = nn.Linear(self.size + 2 * FREQUENCIES, width)
        self.head = nn.Linear(width, self.size)

    def draw(self, mask: Tensor, chance: Chance) -> Tensor:
        """(B, N, size + 1): noise for each constituent and, repeated, the time of its jet."""
        noise = normal((*mask.shape, self.size), chance)
        time = _times((len(mask), 1, 1), chance).expand(-1, mask.shape[1], -1)
        return torch.cat([noise, time], dim=-1)

    def _wanted(self, jets: Jets, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(M, size) values and what counts."""
        features = chosen(jets, rows)
        values, counted = self.quantities(features)
        if not self.names_too:
            return values, counted
        names = torch.arange(len(IDENTITIES), device=features.device)
        is_named = (identity_of(features, self.feature_names)[:, None] == names).to(values.dtype)
        return torch.cat([values, is_named], dim=1), torch.cat([counted, torch.ones_like(is_named)], dim=1)

    def query(self, jets: Jets, rows: Tensor, drawn: Tensor | None) -> Tensor:
        """The noisy set and its time, (M, W)."""
        if drawn is None:
            msg = "a flow needs the noise that `draw` gives"
            raise ValueError(msg)
        mixed = _mixed(*self._wanted(jets, rows), drawn[:, :-1], drawn[:, -1:])
        told: Tensor = self.embed(torch.cat([mixed, _waves(drawn[:, -1:])], dim=1))
        return told

    def forward(self, decoded: Tensor, jets: Jets, rows: Tensor, drawn: Tensor | None) -> dict[str, Tensor]:
        """Mean squared error of the velocity."""
        if drawn is None:
            msg = "a flow needs the noise that `draw` gives"
            raise ValueError(msg)
        values, counted = self._wanted(jets, rows)
        with unrounded(decoded):
            found = self.head(widened(decoded))
        return {"loss": _mean((found - (drawn[:, :-1] - values)).square(), counted)}
