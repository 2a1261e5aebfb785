"""Regressions of a flavour tagger judged: the response, how wide it is, and how prediction and truth go together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from jettag.evaluation.bootstrap import bootstrap_numbers
from jettag.evaluation.metrics import CONFIDENCE

__all__ = ["RegressionScores", "judge_regression"]

FEWEST = 3  # jets: through two points there is always a line

FloatArray = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RegressionScores:
    """What one head predicts of J jets, and what is true.

    Attributes:
        name: jet column that it predicts.
        predicted: (J,) ratio to ``relative_to`` where there is one, else the number itself.
        true: (J,) the same of the truth; NaN where a jet does not count.
        relative_to: jet column that the head's target is divided by; None without.
        logarithm: the head learnt the logarithm.
    """

    name: str
    predicted: FloatArray
    true: FloatArray
    relative_to: str | None = None
    logarithm: bool = False

    @property
    def is_ratio(self) -> bool:
        """Predicted / true is judged, as the head learnt relative distances; else predicted - true."""
        return self.relative_to is not None or self.logarithm


def judge_regression(
    head: RegressionScores, event: Ints, pt: FloatArray | None = None, edges: Sequence[float] = ()
) -> dict[str, Any]:
    """The head's entry under ``regression`` of `eval --json`.

    ``median`` and ``half_width`` (half the distance of the quantiles that hold the central 68 %) are of predicted /
    true, or of predicted - true for a target that is neither relative nor a logarithm. ``correlation`` is Pearson's, of
    what the head learnt: ratios, logarithms or numbers; None where one of them is constant or of fewer than three jets.
    Each has the edges ``_low`` and ``_high`` of its 68 % interval, by bootstrap of events.

    Args:
        head: of J jets.
        event: (J,) number of each jet's event.
        pt: (J,) GeV; adds ``by_pt``, without the bins that have no jet.
        edges: of the bins of pT [GeV].
    """
    counts = np.isfinite(head.true) & np.isfinite(head.predicted)
    report: dict[str, Any] = {
        "relative_to": head.relative_to,
        "logarithm": head.logarithm,
        "compared": "ratio" if head.is_ratio else "difference",
        **_numbers(head, event, counts),
    }
    if pt is not None:
        bins = [(low, high, counts & (pt >= low) & (pt < high)) for low, high in pairwise(edges)]
        report["by_pt"] = [
            {"pt_low": low, "pt_high": high, **_numbers(head, event, inside)}
            for low, high, inside in bins
            if inside.any()
        ]
    return report


def _numbers(head: RegressionScores, event: Ints, chosen: npt.NDArray[np.bool_]) -> dict[str, Any]:
    predicted, true, event = head.predicted[chosen], head.true[chosen], event[chosen]
    response = predicted / true if head.is_ratio else predicted - true
    order = np.argsort(response, kind="stable")  # sorted once: the quantiles of every sample are quick
    response, event = response[order], event[order]
    learnt = [np.log(x[order]) if head.logarithm else x[order] for x in (predicted, true)]
    measures: dict[str, Callable[[Ints], float]] = {
        "median": lambda rows: float(np.median(response[rows])),
        "half_width": lambda rows: _half_width(response[rows]),
        "correlation": lambda rows: _correlation(learnt[0][rows], learnt[1][rows]),
    }
    found: dict[str, Any] = {"jets": len(response)}
    for name, value, low, high in bootstrap_numbers(measures, event):
        found |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return found


def _half_width(values: FloatArray) -> float:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(high - low) / 2


def _correlation(first: FloatArray, second: FloatArray) -> float:
    """Pearson's; NaN where there is none."""
    if len(first) < FEWEST or not np.ptp(first) > 0 or not np.ptp(second) > 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])
