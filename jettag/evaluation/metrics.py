"""The numbers of the table, from scores: AUC, accuracy, working point, background rejection with its interval.

Background rejection is 1 / background efficiency at a signal efficiency. Four rules to find the threshold are in use
(nearest point, first point above, linear interpolation, quantile) and differ where few background jets pass; here
it is the quantile, stated in `working_point`, and a jet passes at ``score >= threshold``.

Scores may be on any monotone scale; a higher one is more like signal.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from jettag.errors import DataError, UsageError

__all__ = [
    "CONFIDENCE",
    "LIMIT_CONFIDENCE",
    "Curve",
    "Rejection",
    "WorkingPoint",
    "accuracy",
    "auc",
    "background_rejection",
    "binary_accuracy",
    "clopper_pearson",
    "rejection_curve",
    "working_point",
]

CONFIDENCE = 0.68  # of the central interval on the background efficiency, as the contract says
# Where nothing passes only the upper edge of that interval is left; alone it holds at (1 + 0.68) / 2.
LIMIT_CONFIDENCE = (1 + CONFIDENCE) / 2

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WorkingPoint:
    """A threshold: a jet passes at ``score >= threshold``.

    Attributes:
        threshold: on the scale of the scores.
        signal_efficiency: what was asked for.
        achieved: share of the signal that passes: at least what was asked for, more where scores are tied.
    """

    threshold: float
    signal_efficiency: float
    achieved: float


@dataclass(frozen=True)
class Rejection:
    """1 / background efficiency and its 68 % Clopper-Pearson interval; never infinite.

    Attributes:
        value: n_background / n_pass, or None where nothing passes.
        low: lower edge; where nothing passes, the lower limit at `LIMIT_CONFIDENCE` (84 %).
        high: upper edge, or None where nothing passes.
        n_pass: background jets at or above the threshold.
        n_background: background jets.
        threshold: on the scale of the scores.
    """

    value: float | None
    low: float
    high: float | None
    n_pass: int
    n_background: int
    threshold: float


@dataclass(frozen=True)
class Curve:
    """Background rejection along the signal efficiency, E points; NaN where nothing passes (for drawing only).

    Attributes:
        signal_efficiency: (E,) ascending.
        rejection: (E,).
        low: (E,) lower edge of the 68 % interval, or the lower limit; always finite.
        high: (E,) upper edge.
        n_pass: (E,) background jets that pass.
    """

    signal_efficiency: FloatArray
    rejection: FloatArray
    low: FloatArray
    high: FloatArray
    n_pass: npt.NDArray[np.int64]


def auc(signal_scores: npt.ArrayLike, background_scores: npt.ArrayLike) -> float:
    """Probability that a signal jet scores above a background jet; a tie counts one half.

    The Mann-Whitney statistic over n_signal * n_background pairs, counted in integers after sorting: exact with ties,
    O((S + B) log B).

    Args:
        signal_scores: (S,).
        background_scores: (B,).

    Raises:
        DataError: a class is empty or a score is not finite.
    """
    signal, background = _finite(signal_scores, "signal"), np.sort(_finite(background_scores, "background"))
    below = np.searchsorted(background, signal, side="left").sum(dtype=np.int64)
    below_or_tied = np.searchsorted(background, signal, side="right").sum(dtype=np.int64)
    return (int(below) + int(below_or_tied)) / (2 * len(signal) * len(background))


def binary_accuracy(signal_scores: npt.ArrayLike, background_scores: npt.ArrayLike, threshold: float = 0.5) -> float:
    """Share of jets on their side of ``threshold``: signal at or above it, background below.

    Not corrected for the sample's composition: classes count with the numbers of jets they came in.

    Raises:
        DataError: a class is empty or a score is not finite.
    """
    signal, background = _finite(signal_scores, "signal"), _finite(background_scores, "background")
    right = np.count_nonzero(signal >= threshold) + np.count_nonzero(background < threshold)
    return float(right / (len(signal) + len(background)))


def accuracy(probabilities: npt.ArrayLike, label: npt.ArrayLike) -> float:
    """Share of jets whose own class has the largest probability; a tie between k classes counts 1 / k.

    Args:
        probabilities: (J, C).
        label: (J,) int, index of the own class.

    Raises:
        DataError: there is no jet or a probability is not finite.
    """
    table, own = np.asarray(probabilities, dtype=np.float64), np.asarray(label)
    _finite(table.ravel(), "any")
    largest = table == table.max(axis=1, keepdims=True)
    # Not argmax: on a tie it takes the first column, and the order of classes must not matter.
    return float(np.mean(largest[np.arange(len(own)), own] / largest.sum(axis=1)))


def working_point(signal_scores: npt.ArrayLike, signal_efficiency: float) -> WorkingPoint:
    """The (1 - signal_efficiency) quantile of the signal scores, ``method="lower"``: always one of the scores.

    Raises:
        DataError: there is no signal or a score is not finite.
        UsageError: the efficiency is not in (0, 1].
    """
    signal = _finite(signal_scores, "signal")
    threshold = float(np.quantile(signal, 1 - _efficiency(signal_efficiency), method="lower"))
    return WorkingPoint(threshold, float(signal_efficiency), float(np.mean(signal >= threshold)))


def background_rejection(
    signal_scores: npt.ArrayLike, background_scores: npt.ArrayLike, signal_efficiency: float
) -> Rejection:
    """Rejection at the `working_point`.

    The interval covers the counting of background jets alone: not the finite signal sample behind the threshold,
    and not the spread between trainings, for which one needs seeds.

    Args:
        signal_scores: (S,).
        background_scores: (B,).
        signal_efficiency: in (0, 1].

    Raises:
        DataError: a class is empty or a score is not finite.
        UsageError: the efficiency is not in (0, 1].
    """
    background = _finite(background_scores, "background")
    threshold = working_point(signal_scores, signal_efficiency).threshold
    n_pass, n_background = int(np.count_nonzero(background >= threshold)), len(background)
    lowest, highest = clopper_pearson(n_pass, n_background)
    return Rejection(
        value=n_background / n_pass if n_pass else None,
        low=float(1 / highest),
        high=float(1 / lowest) if n_pass else None,
        n_pass=n_pass,
        n_background=n_background,
        threshold=threshold,
    )


def rejection_curve(
    signal_scores: npt.ArrayLike, background_scores: npt.ArrayLike, signal_efficiencies: npt.ArrayLike
) -> Curve:
    """`background_rejection` at many signal efficiencies (E,) with one sort of each class.

    Raises:
        DataError: a class is empty or a score is not finite.
        UsageError: an efficiency is not in (0, 1].
    """
    signal, background = _finite(signal_scores, "signal"), np.sort(_finite(background_scores, "background"))
    efficiencies = np.array([_efficiency(value) for value in np.atleast_1d(signal_efficiencies)])
    thresholds = np.quantile(signal, 1 - efficiencies, method="lower")
    n_pass = len(background) - np.searchsorted(background, thresholds, side="left").astype(np.int64)
    lowest, highest = clopper_pearson(n_pass, len(background))
    some = n_pass > 0
    nothing = np.full(len(n_pass), np.nan)
    return Curve(
        signal_efficiency=efficiencies,
        rejection=np.divide(len(background), n_pass, out=nothing.copy(), where=some),
        low=1 / highest,
        high=np.divide(1.0, lowest, out=nothing.copy(), where=some),
        n_pass=n_pass,
    )


def clopper_pearson(
    n_pass: npt.ArrayLike, n_total: npt.ArrayLike, confidence: float = CONFIDENCE
) -> tuple[FloatArray, FloatArray]:
    """The exact central interval on a binomial efficiency (Clopper and Pearson, Biometrika 26 (1934) 404).

    Each edge is the efficiency at which the observed count, or one farther from it, has probability
    (1 - confidence) / 2. It is [0, ...] where nothing passes and [..., 1] where everything does.
    """
    passed, total = np.asarray(n_pass, dtype=np.float64), np.asarray(n_total, dtype=np.float64)
    tail = (1 - confidence) / 2
    # Quantiles of beta distributions; these have no zero parameter, and the two edges that need one are known.
    lowest = np.where(passed > 0, betaincinv(np.maximum(passed, 1), total - passed + 1, tail), 0.0)
    highest = np.where(passed < total, betaincinv(passed + 1, np.maximum(total - passed, 1), 1 - tail), 1.0)
    return lowest, highest


def _finite(scores: npt.ArrayLike, which: str) -> FloatArray:
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0:
        raise DataError(f"expected {which} jets, found none", do="give files with both classes")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        what = f"expected finite scores, found {len(bad)} of {values.size} {which} ones NaN or infinite"
        raise DataError(what, where=f"entry {bad[0]} (the first)", do="check the inputs and the model")
    return values


def _efficiency(value: float) -> float:
    if not 0 < value <= 1:
        raise UsageError(f"expected a signal efficiency in (0, 1], found {value}", do="write 30 % as 0.3")
    return float(value)
