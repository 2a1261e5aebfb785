"""DisCo (arXiv:2001.05310): a network whose score is trained not to follow a mass, by distance correlation."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from jettag.errors import UsageError
from jettag.weak.folds import Classifier

__all__ = ["STRENGTH", "distance_correlation", "make_disco"]

STRENGTH = 30.0  # of the penalty against the cross entropy; the price of a small divergence is chosen with it
HIDDEN = 64
BATCH_SIZE = 512
EPOCHS = 20
LEARNING_RATE = 1e-2


def distance_correlation(first: Tensor, second: Tensor) -> Tensor:
    """() squared distance correlation of pairs, 0 where they are independent and 1 where one is a line in the other.

    Args:
        first: (n,).
        second: (n,).
    """
    a, b = (_centred(values) for values in (first, second))
    spread = (a.square().mean() * b.square().mean()).clamp_min(1e-20).sqrt()
    return (a * b).mean() / spread


def _centred(values: Tensor) -> Tensor:
    """(n, n) distances without the means of rows and columns."""
    distance = (values[:, None] - values[None, :]).abs()
    return distance - distance.mean(0, keepdim=True) - distance.mean(1, keepdim=True) + distance.mean()


def make_disco(strength: float = STRENGTH, *, epochs: int = EPOCHS) -> Callable[[int], Classifier]:
    """A network of two hidden layers; the last feature is the mass, which it never sees.

    Args:
        strength: of the penalty on background; 0 trains without it.
        epochs: of the training.

    Raises:
        UsageError: a negative strength.
    """
    if strength < 0:
        raise UsageError(f"expected a strength of at least zero, found {strength:g}")
    return lambda seed: _DisCo(strength, epochs, seed)


class _DisCo:
    """Standardises with the training events, and keeps both classes at the same weight."""

    def __init__(self, strength: float, epochs: int, seed: int) -> None:
        self._strength, self._epochs, self._seed = strength, epochs, seed

    def fit(self, features: npt.NDArray, label: npt.NDArray, *, sample_weight: npt.NDArray | None = None) -> "_DisCo":
        self._mean = features.mean(0)
        self._width = np.maximum(features.std(0), 1e-12)
        x = self._scaled(features)
        inputs, mass = x[:, :-1], x[:, -1]
        truth = torch.from_numpy(label.astype(np.float32))
        weight = np.ones(len(label)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        for value in (0, 1):
            weight = np.where(label == value, weight / weight[label == value].sum() * len(label) / 2, weight)
        each = torch.from_numpy(weight.astype(np.float32))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            width = inputs.shape[1]
            self._network = nn.Sequential(
                nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1)
            )
            optimizer = torch.optim.Adam(self._network.parameters(), LEARNING_RATE)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self._epochs)
            for _ in range(self._epochs):
                for rows in torch.split(torch.randperm(len(truth)), BATCH_SIZE):
                    logit = self._network(inputs[rows])[:, 0]
                    loss = nn.functional.binary_cross_entropy_with_logits(logit, truth[rows], each[rows])
                    background = truth[rows] == 0
                    if self._strength and int(background.sum()) > 1:
                        score = torch.sigmoid(logit[background])
                        loss = loss + self._strength * distance_correlation(score, mass[rows][background])
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                schedule.step()
        return self

    @torch.no_grad()
    def predict_proba(self, features: npt.NDArray) -> npt.NDArray:
        score = torch.sigmoid(self._network(self._scaled(features)[:, :-1])[:, 0]).double().numpy()
        return np.stack([1 - score, score], axis=1)

    def _scaled(self, features: npt.NDArray) -> Tensor:
        return torch.from_numpy(((features - self._mean) / self._width).astype(np.float32))
