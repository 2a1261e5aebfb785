"""Where the training of a linear head on a frozen backbone begins: at the logistic regression of its embeddings.

Linear probing to convergence is the first half of LP-FT (Kumar et al., arXiv:2202.10054), which also fits it by
regression. Steps of an optimizer come near it only after thousands, with a learning rate that must be found for each
number of labels.
"""

import warnings
from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score

from jettag.models.heads import ClassHead
from jettag.objectives import Classification

__all__ = ["fit_head"]

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # sklearn's C: the smaller, the smaller the weights
FOLDS = 3
FEW = 30_000  # jets up to which the strength is chosen by cross-validation; more need no prior
MOST = 200_000  # jets that are fitted; weights of some hundred numbers do not change with more
MOST_ITERATIONS = 300
ABSENT = -10.0  # logit of a class without jets


def fit_head(
    model: Classification, embedding: npt.NDArray[np.float32], label: npt.NDArray[np.int64], note: Callable[[str], None]
) -> None:
    """Set the linear head of ``model`` to the multinomial logistic regression of embeddings on labels.

    Classes weigh as in the model's loss. Embeddings are standardised for the fit, and the head undoes it.

    Args:
        model: with a head of one linear layer.
        embedding: (J, D).
        label: (J,).
        note: told what was fitted.
    """
    random = np.random.default_rng(0)
    if len(label) > MOST:
        chosen = random.choice(len(label), MOST, replace=False)
        embedding, label = embedding[chosen], label[chosen]
    x = embedding.astype(np.float64)
    mean, width = x.mean(0), x.std(0)
    width[width == 0] = 1.0
    x = (x - mean) / width
    weight = model.class_weight.cpu().double().numpy()[label]  # in this order: MPS has no float64
    known = np.unique(label)
    if len(known) < 2:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the steps that follow go on from there
        strength = _strength(x, label, weight)
        fitted = _regression(strength).fit(x, label, sample_weight=weight)
    coefficients, intercept = fitted.coef_, fitted.intercept_
    if len(known) == 2:  # sklearn gives the difference of both logits
        coefficients, intercept = (np.stack([-value[0], value[0]]) / 2 for value in (coefficients, intercept))
    assert isinstance(model.head, ClassHead)
    layer = cast("torch.nn.Linear", model.head.layers[-1])
    values, bias = np.zeros(layer.weight.shape), np.full(layer.bias.shape, ABSENT)
    values[known] = coefficients / width
    bias[known] = intercept - values[known] @ mean
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(values))
        layer.bias.copy_(torch.from_numpy(bias))
    note(f"the head starts at the logistic regression of {len(label)} embeddings (C = {strength:g})")


def _regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=MOST_ITERATIONS)


def _strength(x: npt.NDArray, label: npt.NDArray, weight: npt.NDArray) -> float:
    """The regularisation of the lowest cross entropy on jets that were not fitted."""
    if len(label) > FEW or np.bincount(label)[np.unique(label)].min() < FOLDS:
        return STRENGTHS[-1]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    scores = []
    for strength in STRENGTHS:
        found = cross_val_score(
            _regression(strength), x, label, cv=folds, scoring="neg_log_loss", params={"sample_weight": weight}
        )
        scores.append(found.mean())
    return STRENGTHS[int(np.argmax(scores))]
