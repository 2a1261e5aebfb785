"""What a search gains: significance improvement, and the number that ranks trainings without a label.

The significance improvement characteristic is SIC = eps_S / sqrt(eps_B) (arXiv:1001.2518): the factor by which a cut
raises S / sqrt(B). A random score has SIC = sqrt(eps_B), at most 1, so 1 is the floor of a maximum and sqrt(eps_B) is
what is expected at a fixed background efficiency where nothing was learnt.

Scores may be on any monotone scale; a higher one is more like signal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jettag.errors import DataError, UsageError
from jettag.weak.checks import FloatArray, check_weights, finite

__all__ = [
    "BACKGROUND_EFFICIENCIES",
    "MIN_BACKGROUND",
    "Band",
    "MaxSic",
    "SicCurve",
    "argos",
    "band",
    "best_improvement",
    "enough_background",
    "max_sic",
    "sic_at",
    "sic_curve",
    "total_improvement",
]

# Background events that must pass: the relative error of their number is then at most 20 %.
MIN_BACKGROUND = 25
BACKGROUND_EFFICIENCIES = (1e-2, 1e-3)
IMPROVEMENT_EFFICIENCIES = (1e-2, 1e-3, 1e-4)  # of the total improvement, arXiv:2105.14027
BAND = (0.16, 0.84)


@dataclass(frozen=True)
class SicCurve:
    """The curve at every threshold that is one of the scores, from the hardest cut to none; T points.

    Attributes:
        signal_efficiency: (T,) ascending.
        background_efficiency: (T,) ascending.
        sic: (T,) eps_S / sqrt(eps_B), NaN where no background passes.
        n_background_pass: (T,) background events at or above the threshold.
        threshold: (T,) descending.
        n_background: all of them.
        n_signal: all of them.
    """

    signal_efficiency: FloatArray
    background_efficiency: FloatArray
    sic: FloatArray
    n_background_pass: npt.NDArray[np.int64]
    threshold: FloatArray
    n_background: int
    n_signal: int


@dataclass(frozen=True)
class MaxSic:
    """The highest point of a SIC curve that enough background supports.

    Attributes:
        value: SIC there.
        signal_efficiency: there.
        background_efficiency: there.
        n_background_pass: background events that pass.
        threshold: on the scale of the scores.
    """

    value: float
    signal_efficiency: float
    background_efficiency: float
    n_background_pass: int
    threshold: float


@dataclass(frozen=True)
class Band:
    """Median over runs with its 16-84 % band.

    Attributes:
        median: of the runs.
        low: their 16 % quantile.
        high: their 84 % quantile.
        n: runs.
    """

    median: float
    low: float
    high: float
    n: int


def sic_curve(
    signal_scores: npt.ArrayLike, background_scores: npt.ArrayLike, background_weight: npt.ArrayLike | None = None
) -> SicCurve:
    """SIC along all thresholds; an event passes at ``score >= threshold``, and events of one score pass together.

    Args:
        signal_scores: (S,).
        background_scores: (B,).
        background_weight: (B,) of the background's efficiency; the numbers of events are then effective ones, rounded
            down: (sum of weights) squared over the sum of their squares.

    Raises:
        DataError: a class is empty or a score is not finite.
    """
    signal = np.sort(finite(signal_scores, "scores of signal"))
    background = finite(background_scores, "scores of background")
    order = np.argsort(background)
    background = background[order]
    threshold = np.unique(np.concatenate([signal, background]))[::-1]
    n_signal_pass = len(signal) - np.searchsorted(signal, threshold, side="left")
    first = np.searchsorted(background, threshold, side="left")
    n_background_pass = (len(background) - first).astype(np.int64)
    signal_efficiency = n_signal_pass / len(signal)
    n_background = len(background)
    if background_weight is None:
        background_efficiency = n_background_pass / n_background
    else:
        weight = check_weights(background_weight)[order]
        # Of each event and those that score higher.
        above, squares = (np.append(np.cumsum(part[::-1])[::-1], 0.0) for part in (weight, weight**2))
        background_efficiency = above[first] / above[0]
        effective = np.divide(above**2, squares, out=np.zeros_like(above), where=squares > 0)
        n_background_pass, n_background = (effective[first] + 1e-9).astype(np.int64), int(effective[0] + 1e-9)
    sic = np.divide(
        signal_efficiency,
        np.sqrt(background_efficiency),
        out=np.full(len(threshold), np.nan),
        where=background_efficiency > 0,
    )
    return SicCurve(
        signal_efficiency, background_efficiency, sic, n_background_pass, threshold, n_background, len(signal)
    )


def enough_background(count: int, fewest: int = MIN_BACKGROUND) -> None:
    """Refuse to judge on too little background, before anything is trained.

    Raises:
        DataError: fewer background events judge than a maximum SIC keeps.
    """
    if count < fewest:
        what = f"{count} background events judge, at least {fewest} are needed"
        raise DataError(what, do="give more files in --test")


def max_sic(curve: SicCurve, *, min_background: int = MIN_BACKGROUND) -> MaxSic:
    """The maximum over thresholds that keep at least ``min_background`` background events.

    It is a maximum over the events that judge, so it is never below 1 (no cut at all) and a random score lies a little
    above it: test one-sided, and look at `sic_at`.

    Raises:
        DataError: there are fewer background events than that.
    """
    enough_background(curve.n_background, min_background)
    best = int(np.argmax(np.where(curve.n_background_pass >= min_background, curve.sic, -np.inf)))
    return MaxSic(
        value=float(curve.sic[best]),
        signal_efficiency=float(curve.signal_efficiency[best]),
        background_efficiency=float(curve.background_efficiency[best]),
        n_background_pass=int(curve.n_background_pass[best]),
        threshold=float(curve.threshold[best]),
    )


def sic_at(curve: SicCurve, background_efficiency: float) -> float | None:
    """SIC at a background efficiency, or None where not one background event would pass there.

    Between two thresholds the ROC curve is straight, which is what breaking ties at random gives on average.

    Raises:
        UsageError: the efficiency is not in (0, 1].
    """
    if not 0 < background_efficiency <= 1:
        raise UsageError(f"expected a background efficiency in (0, 1], found {background_efficiency}")
    if background_efficiency * curve.n_background < 1:
        return None
    # At one background efficiency the curve may climb; there numpy takes the upper end, which a cut reaches.
    x = np.concatenate([[0.0], curve.background_efficiency])
    y = np.concatenate([[0.0], curve.signal_efficiency])
    return float(np.interp(background_efficiency, x, y) / np.sqrt(background_efficiency))


def argos(
    data_scores: npt.ArrayLike,
    template_scores: npt.ArrayLike,
    *,
    template_weight: npt.ArrayLike | None = None,
    min_template: int = MIN_BACKGROUND,
) -> float:
    """Rank a training without a label: the maximum over cuts of eps_data / sqrt(eps_template) - sqrt(eps_template).

    ARGOS (arXiv:2511.14832). With a fraction f of signal in the data and none in the template it is
    f (SIC - sqrt(eps_B)), so on average a score of higher SIC ranks higher; a random one has 0.

    Args:
        data_scores: (n,) of the sample that may hold signal, held out from training.
        template_scores: (m,) of the background template or the poorer mixture, held out too.
        template_weight: (m,) of the template's pass rate.
        min_template: template events that must pass, effective ones where they have weights.

    Raises:
        DataError: a sample is empty or a score is not finite.
    """
    curve = sic_curve(data_scores, template_scores, template_weight)
    enough = curve.n_background_pass >= min(min_template, curve.n_background)
    value = curve.sic - np.sqrt(curve.background_efficiency)
    return float(np.nanmax(value[enough]))


def band(values: Sequence[float]) -> Band:
    """Median and 16-84 % band of runs.

    Raises:
        DataError: there is no run, or a value is not finite.
    """
    numbers = finite(values, "runs")
    low, high = np.quantile(numbers, BAND)
    return Band(float(np.median(numbers)), float(low), float(high), len(numbers))


def best_improvement(curve: SicCurve) -> float:
    """The best SIC of one signal at background efficiencies 1e-2, 1e-3, 1e-4: its total improvement, arXiv:2105.14027.

    Efficiencies at which no background event would pass are left out.

    Raises:
        DataError: too little background for any of them.
    """
    values = [sic_at(curve, efficiency) for efficiency in IMPROVEMENT_EFFICIENCIES]
    known = [value for value in values if value is not None]
    if not known:
        what = f"{curve.n_background} background events are too few for an efficiency of 1e-2"
        raise DataError(what, do="give more files in --test")
    return max(known)


def total_improvement(curves: Mapping[str, SicCurve]) -> dict[str, float]:
    """Smallest, median and largest over signals of `best_improvement`.

    Args:
        curves: signal name to its curve, all against the same background.

    Raises:
        DataError: there is no signal, or too little background.
    """
    numbers = finite([best_improvement(curve) for curve in curves.values()], "signals")
    return {"min": float(numbers.min()), "median": float(np.median(numbers)), "max": float(numbers.max())}
