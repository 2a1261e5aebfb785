"""Classifiers on rows of numbers: gradient-boosted trees first (arXiv:2309.13111), a linear probe beside them.

Trees beat networks where few features among many tell anything, and cost seconds. scikit-learn does the work; here are
the settings and how embeddings are prepared.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from jettag.errors import UsageError
from jettag.weak.binning import quantiles_at_once
from jettag.weak.folds import Classifier, Selection
from jettag.weak.measures import argos

__all__ = ["make_linear", "make_principal_trees", "make_trees"]

MAX_BINS = 127  # with the next three the settings of sk_cathode, the code of arXiv:2309.13111
PATIENCE = 10
VALIDATION = 0.2
MAX_ITERATIONS = 200


def make_trees(seed: int, selection: Selection = "loss") -> Classifier:
    """Boosted trees; a fifth of the training events ends the boosting. Both samples weigh the same.

    Args:
        seed: of that fifth.
        selection: what must not have improved for ten trees: the loss where there are labels, ARGOS where there are
            none. `RESULTS.md`, trees that ARGOS ends, compares the two.
    """
    trees: Classifier = _Trees(
        max_iter=MAX_ITERATIONS,
        max_bins=MAX_BINS,
        early_stopping=True,
        validation_fraction=VALIDATION,
        n_iter_no_change=PATIENCE,
        scoring=_argos if selection == "argos" else "loss",
        class_weight="balanced",
        random_state=seed,
    )
    return trees


def make_principal_trees(components: int, selection: Selection = "loss") -> Callable[[int], Classifier]:
    """Boosted trees on the first principal components, which are found on the training events alone.

    Raises:
        UsageError: fewer than one component.
    """
    if components < 1:
        raise UsageError(f"expected at least one principal component, found {components}")

    def make(seed: int) -> Classifier:
        return _Weighted(
            make_pipeline(StandardScaler(), PCA(components, random_state=seed), make_trees(seed, selection))
        )

    return make


def make_linear(seed: int) -> Classifier:
    """Logistic regression on standardised features: the linear probe. Both samples weigh the same."""
    return _Weighted(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced", random_state=seed))
    )


def _argos(trees: Any, features: npt.NDArray, label: npt.NDArray, sample_weight: npt.NDArray | None = None) -> float:
    """How well the trees so far tell data, label 1, from the template."""
    score, data = trees.predict_proba(features)[:, 1], label == 1
    return argos(score[data], score[~data], template_weight=None if sample_weight is None else sample_weight[~data])


class _Trees(HistGradientBoostingClassifier):  # type: ignore[misc]  # it has no types
    """Boosted trees whose bins are found as fast with event weights as without."""

    def fit(self, features: npt.NDArray, label: npt.NDArray, sample_weight: npt.NDArray | None = None) -> "_Trees":
        with quantiles_at_once():
            super().fit(features, label, sample_weight=sample_weight)
        return self


class _Weighted:
    """A pipeline whose last step takes event weights."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._last = pipeline.steps[-1][0]

    def fit(
        self, features: npt.NDArray, label: npt.NDArray, *, sample_weight: npt.NDArray | None = None
    ) -> "_Weighted":
        self._pipeline.fit(features, label, **{f"{self._last}__sample_weight": sample_weight})
        return self

    def predict_proba(self, features: npt.NDArray) -> npt.NDArray:
        return np.asarray(self._pipeline.predict_proba(features))
