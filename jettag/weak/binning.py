"""Bins of boosted trees on weighted events, from one sort of each feature.

scikit-learn (from 1.8 on, at least to 1.9) sorts a feature again for every one of its quantiles where events have
weights, which is nearly all that trees on a hundred features cost. Its own function gives all of them at once.
"""

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["quantiles_at_once"]

MODULE, NAME = "sklearn.ensemble._hist_gradient_boosting.binning", "_weighted_percentile"  # private, so they may go
MOST_BINS = 255  # of scikit-learn


@contextmanager
def quantiles_at_once() -> Iterator[None]:
    """Within it the bins are the same to the bit; where scikit-learn finds them in another way, nothing is changed."""
    try:
        binning = importlib.import_module(MODULE)
    except ImportError:
        binning = None
    original = getattr(binning, NAME, None)
    if original is None:
        yield
        return
    setattr(binning, NAME, _AtOnce(original))
    try:
        yield
    finally:
        setattr(binning, NAME, original)


class _AtOnce:
    """`_weighted_percentile`, which knows after the first quantile of an array those that will be asked next.

    The first that is asked of ``n`` bins is 100 / n per cent.
    """

    def __init__(self, original: Any) -> None:
        self._original = original
        self._last = threading.local()  # features are binned by several threads

    def __call__(self, array: Any, weight: Any, rank: Any, **options: Any) -> Any:
        last = self._last
        if getattr(last, "array", None) is not array or last.weight is not weight or last.options != options:
            bins = min(round(100 / max(rank, 100 / MOST_BINS)), MOST_BINS)
            ranks = np.linspace(0, 100, num=bins + 1)[1:-1]
            last.array, last.weight, last.options = array, weight, options
            last.known = dict(zip(ranks.tolist(), self._original(array, weight, ranks, **options), strict=True))
        found = last.known.get(float(rank))
        return self._original(array, weight, rank, **options) if found is None else found
