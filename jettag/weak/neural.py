"""A small network as the classifier of two samples, with the settings of CATHODE (arXiv:2109.00546), beside the trees.

Of an epoch's loss a weak signal changes little, so no epoch is the best one: those of the highest ARGOS, or of the
lowest loss, vote.
"""

import copy

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from jettag.errors import DivergenceError
from jettag.weak.folds import Classifier, Selection
from jettag.weak.measures import argos

__all__ = ["make_neural"]

HIDDEN, LAYERS = 64, 3  # with the next three the reference's
LEARNING_RATE = 1e-3
VOTERS = 10  # best epochs on the events held out, whose mean is the score
VALIDATION = 0.2
EPOCHS = 30  # 100 in the reference
BATCH_SIZE = 512  # 128 in the reference; a region has thousands of events, and each batch should hold some signal


def make_neural(seed: int, selection: Selection) -> Classifier:
    """Three layers of 64 on standardised features. Both samples weigh the same.

    Args:
        seed: of weights, batches and the events held out.
        selection: how epochs are ranked on these; the reference does it by their loss.
    """
    return _Neural(seed, selection)


class _Neural:
    """Standardises with the richer sample, that of label 1, as the reference does."""

    def __init__(self, seed: int, selection: Selection) -> None:
        self._seed, self._selection = seed, selection

    def fit(self, features: npt.NDArray, label: npt.NDArray, *, sample_weight: npt.NDArray | None = None) -> "_Neural":
        rich = features[label == 1]
        self._mean, self._width = rich.mean(0), np.maximum(rich.std(0), 1e-12)
        x, truth = self._scaled(features), torch.from_numpy(label.astype(np.float32))
        weight = np.ones(len(label)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        for kind in (0, 1):
            inside = label == kind
            weight = np.where(inside, weight / weight[inside].sum() * len(label) / 2, weight)
        each = torch.from_numpy(weight.astype(np.float32))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            network = _layers(x.shape[1])
            order = torch.randperm(len(truth))
            held = max(int(VALIDATION * len(truth)), 1)
            val, train = order[:held], order[held:]
            optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)

            def loss(rows: Tensor) -> Tensor:
                logit = network(x[rows])[:, 0]
                return nn.functional.binary_cross_entropy_with_logits(logit, truth[rows], each[rows])

            def rank(rows: Tensor, found: float) -> float:
                data = truth[rows].numpy() == 1
                if self._selection == "loss" or data.all() or not data.any():
                    return -found
                score = network(x[rows])[:, 0].double().numpy()
                return argos(score[data], score[~data], template_weight=each[rows].numpy()[~data])

            states = []
            for _ in range(EPOCHS):
                for rows in torch.split(train[torch.randperm(len(train))], BATCH_SIZE):
                    value = loss(rows)
                    optimizer.zero_grad(set_to_none=True)
                    value.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                with torch.no_grad():
                    found = float(loss(val))
                    if not np.isfinite(found):
                        raise DivergenceError("the network's loss is not finite", do="check the features for outliers")
                    states.append((rank(val, found), copy.deepcopy(network.state_dict())))
        states.sort(key=lambda state: state[0], reverse=True)
        self._states, self._network = [state for _, state in states[:VOTERS]], network
        return self

    @torch.no_grad()
    def predict_proba(self, features: npt.NDArray) -> npt.NDArray:
        x = self._scaled(features)
        score = torch.zeros(len(x))
        for state in self._states:
            self._network.load_state_dict(state)
            score += torch.sigmoid(self._network(x)[:, 0]) / len(self._states)
        probability = score.double().numpy()
        return np.stack([1 - probability, probability], axis=1)

    def _scaled(self, features: npt.NDArray) -> Tensor:
        return torch.from_numpy(((features - self._mean) / self._width).astype(np.float32))


def _layers(width: int) -> nn.Module:
    parts: list[nn.Module] = []
    for _ in range(LAYERS):
        parts += [nn.Linear(width, HIDDEN), nn.ReLU()]
        width = HIDDEN
    return nn.Sequential(*parts, nn.Linear(HIDDEN, 1))
