"""Scores with a known separation, for every test of the folder."""

from collections.abc import Callable

import numpy as np
import pytest

from jettag.evaluation.scores import Scores


@pytest.fixture
def make_scores() -> Callable[..., Scores]:
    """Softmax of normal logits in which the true class is ``separation`` higher."""

    def make(run="run", *, separation=1.0, jets=2000, seed=0, class_names=("QCD", "Tbqq"), **facts) -> Scores:
        generator = np.random.default_rng(seed)
        label = generator.integers(0, len(class_names), jets)
        logits = generator.normal(size=(jets, len(class_names)))
        logits[np.arange(jets), label] += separation
        weights = np.exp(logits)
        return Scores(run, class_names, weights / weights.sum(1, keepdims=True), label, **facts)

    return make
