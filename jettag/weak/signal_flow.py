"""R-ANODE (arXiv:2312.11629): the signal alone is fitted, in p_data = w p_signal + (1 - w) p_background.

The background is fixed; the fraction w is learnt with the signal's flow. Without signal a flow fits fluctuations, and
its ratio to the background orders events as surely as a true one does. So each member of an ensemble is held to events
that did not train it: the mean over members of their likelihood ratios against background alone is at most 1 on
average where there is no signal (arXiv:1912.11436), and by Markov's inequality seldom large. Unless it is, no event is
more like signal than another.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import logsumexp
from torch import Tensor, nn

from jettag.weak.checks import FloatArray
from jettag.weak.flow import ConditionalFlow, FlowSettings, Scaling, make_network, train

__all__ = ["SignalModel", "fit_signal_flow"]

FIRST_ODDS = -3.0  # log of w / (1 - w): w begins at 5 %
ODDS_RATE = 0.1  # learning rate of the log odds: at a flow's own rate w would stay where it began
CHANCE = 0.1  # of a find without signal, at most, where the background is right
MOST_GAIN = 1.0  # in log likelihood by one event, so that no outlier of the background's tails is a find
STEPS = 8  # of an epoch, at least: regions hold few events


@dataclass(frozen=True)
class SignalModel:
    """A signal over a fixed background.

    Attributes:
        background: p_background(x | m).
        members: p_signal(x | m) and w of each member that found something.
        folds: members, with those that found nothing.
        evidence: log of the members' mean likelihood ratio against background alone, on events that trained none.
        wanted: evidence from which on there is a signal.
    """

    background: ConditionalFlow
    members: tuple[tuple[ConditionalFlow, float], ...]
    folds: int
    evidence: float
    wanted: float

    @property
    def found(self) -> bool:
        """Whether the evidence is enough."""
        return self.evidence > self.wanted

    @property
    def fraction(self) -> float:
        """Of signal: the members' mean w; 0 where nothing is found."""
        return sum(weight for _, weight in self.members) / self.folds if self.found else 0.0

    def log_ratio(self, features: npt.NDArray, mass: npt.NDArray) -> FloatArray:
        """(n,) log of expected signal over background; 0 for every event where nothing is found.

        Args:
            features: (n, F).
            mass: (n,).
        """
        if not self.found:
            return np.zeros(len(mass))
        each = [np.log(weight) + flow.log_prob(features, mass) for flow, weight in self.members]
        signal: FloatArray = logsumexp(each, axis=0) - np.log(self.folds)
        return signal - self.background.log_prob(features, mass)


def fit_signal_flow(
    features: npt.NDArray,
    mass: npt.NDArray,
    background: ConditionalFlow,
    *,
    settings: FlowSettings | None = None,
    folds: int = 3,
    seed: int = 0,
) -> SignalModel:
    """Fit the signal in the data of the signal region.

    Args:
        features: (n, F).
        mass: (n,).
        background: fitted outside.
        settings: of network and training.
        folds: members; each is held to the events of one fold, which choose its epoch, and trained on the others.
        seed: of folds, weights and batches.

    Raises:
        DataError: a feature is constant, or there are too few events.
        DivergenceError: the loss is not finite.
    """
    chosen = settings or FlowSettings()
    scaling = Scaling.fit(features, mass)
    fixed = background.log_prob(features, mass) - scaling.log_derivative(features)
    events = scaling.forward(features), scaling.context(mass), torch.from_numpy(fixed.astype(np.float32))
    members: list[tuple[ConditionalFlow, float]] = []
    evidence = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fold = torch.randperm(len(mass)) % folds
        for k in range(folds):
            rows = torch.nonzero(fold != k)[:, 0], torch.nonzero(fold == k)[:, 0]
            network, fraction, gained = _fit_member(*events, rows, chosen)
            evidence.append(gained)
            if gained > 0:
                members.append((ConditionalFlow(network, scaling), fraction))
    return SignalModel(
        background,
        tuple(members),
        folds,
        evidence=float(logsumexp(evidence) - np.log(folds)),
        # The best epoch's ratio is at most the sum over epochs.
        wanted=float(np.log(chosen.epochs / CHANCE)),
    )


def _fit_member(
    x: Tensor, context: Tensor, other: Tensor, rows: tuple[Tensor, Tensor], settings: FlowSettings
) -> tuple[nn.Module, float, float]:
    """A signal's flow, w, and the log likelihood that both gain over background alone on the events held out.

    Args:
        x: (n, F) scaled features.
        context: (n, 1) scaled masses.
        other: (n,) log density of the background in the scaled features.
        rows: that train, and that are held out.
        settings: of network and training.
    """
    network: Any = make_network(x.shape[1], settings)
    odds = nn.Parameter(torch.tensor(FIRST_ODDS))

    def gain(at: Tensor) -> Tensor:
        signal = nn.functional.logsigmoid(odds) + network(context[at]).log_prob(x[at]) - other[at]
        return torch.logaddexp(signal, nn.functional.logsigmoid(-odds))

    groups: list[dict[str, Any]] = [{"params": list(network.parameters())}, {"params": [odds], "lr": ODDS_RATE}]
    lowest = train(
        groups,
        [network, nn.ParameterList([odds])],
        lambda at: -gain(at).mean(),
        rows,
        replace(settings, batch_size=max(min(settings.batch_size, len(rows[0]) // STEPS), 1)),
        judge=lambda at: -gain(at).clamp_max(MOST_GAIN).mean(),
    )
    return network.eval(), float(torch.sigmoid(odds.detach())), max(-lowest, 0.0) * len(rows[1])
