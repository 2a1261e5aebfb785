"""Folds: every event scored by classifiers that never saw it, and cuts that no scored event decided.

Scores of different folds come from different classifiers and are not on one scale: events are cut on the quantiles of
their own fold.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from jettag.errors import DataError
from jettag.weak.checks import FloatArray, check_weights

__all__ = ["BY_LOSS", "Classifier", "FoldScores", "Selection", "assign_folds", "fit_folds", "fold_quantiles"]

Selection = Literal["loss", "argos"]  # what ends a training: loss, or the label-free ranking, of events held out
BY_LOSS = "the loss of events held out, not ARGOS, ended what was trained without labels"  # a note on results
SMALLEST_FOLD = 10  # events of each class in a fold


class Classifier(Protocol):
    """What is fitted in each fold."""

    def fit(self, features: npt.NDArray, label: npt.NDArray, *, sample_weight: npt.NDArray | None = None) -> Any:
        """Learn 0 against 1."""

    def predict_proba(self, features: npt.NDArray) -> npt.NDArray:
        """(n, 2)."""


@dataclass(frozen=True)
class FoldScores:
    """What an ensemble with one member for each fold says.

    Attributes:
        out_of_fold: (n,) score of each training event by the member that did not see it.
        fold: (n,) the fold of each training event.
        test: (m,) mean over the members' scores of other events, which none of them saw.
    """

    out_of_fold: FloatArray
    fold: npt.NDArray[np.int64]
    test: FloatArray


def assign_folds(label: npt.NDArray, folds: int, seed: int) -> npt.NDArray[np.int64]:
    """(n,) fold of each event: every class shuffled and dealt out evenly.

    Raises:
        DataError: only one class, or too few events of one for so many folds.
    """
    classes, counts = np.unique(label, return_counts=True)
    if len(classes) < 2:
        raise DataError("one class after the mixing", do="give events of both samples")
    if counts.min() < SMALLEST_FOLD * folds:
        what = f"{counts.min()} events in a sample are too few for {folds} folds of at least {SMALLEST_FOLD}"
        raise DataError(what, do="give more events or fewer folds")
    random = np.random.default_rng([seed, 2])
    result = np.empty(len(label), dtype=np.int64)
    for value in classes:
        rows = random.permutation(np.flatnonzero(label == value))
        result[rows] = np.arange(len(rows)) % folds
    return result


def fit_folds(
    make: Callable[[int], Classifier],
    features: npt.NDArray,
    label: npt.NDArray,
    test: npt.NDArray,
    *,
    folds: int,
    seed: int,
    weight: npt.NDArray | None = None,
    share_of_features: float = 1.0,
) -> FoldScores:
    """Fit one classifier for each fold on the events of the other folds.

    Args:
        make: a fresh classifier of a seed.
        features: (n, F) of the events that train.
        label: (n,) 0 or 1.
        test: (m, F) of events that only are scored.
        folds: how many.
        seed: of folds and classifiers.
        weight: (n,) of the events in training.
        share_of_features: each member sees so much of the features, drawn at random (attribute bagging).

    Raises:
        DataError: as `assign_folds`, or a weight is negative.
    """
    fold = assign_folds(label, folds, seed)
    weight = None if weight is None else check_weights(weight)
    out = np.empty(len(label))
    total = np.zeros(len(test))
    random = np.random.default_rng([seed, 3])
    chosen = max(round(share_of_features * features.shape[1]), 1)
    for k in range(folds):
        columns = np.sort(random.permutation(features.shape[1])[:chosen])
        inside, outside = fold != k, fold == k
        member = make(seed * folds + k)
        member.fit(
            features[np.ix_(inside, columns)],
            label[inside],
            sample_weight=None if weight is None else weight[inside],
        )
        out[outside] = member.predict_proba(features[np.ix_(outside, columns)])[:, 1]
        if len(test):
            total += member.predict_proba(test[:, columns])[:, 1]
    return FoldScores(out, fold, total / folds)


def fold_quantiles(
    scores: npt.NDArray, fold: npt.NDArray, reference: npt.NDArray[np.bool_] | None = None
) -> FloatArray:
    """(n,) share of the fold's ``reference`` events that score below each event, plus half of those that tie: 0 to 1.

    Args:
        scores: (n,) out-of-fold scores.
        fold: (n,).
        reference: (n,) events that define the quantiles; all where not given.

    Raises:
        DataError: a fold has no reference event.
    """
    result = np.empty(len(scores))
    for k in np.unique(fold):
        inside = fold == k
        known = np.sort(scores[inside] if reference is None else scores[inside & reference])
        if not len(known):
            raise DataError(f"no event in fold {k} to cut on", do="give more events or fewer folds")
        below, upto = (np.searchsorted(known, scores[inside], side=side) for side in ("left", "right"))
        result[inside] = (below + upto) / (2 * len(known))
    return result
