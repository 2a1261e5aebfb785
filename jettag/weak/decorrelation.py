"""Scores that do not know a mass: the conditional cumulative, in bins and by a flow, and planing.

s' = F(s | m), the share of background of the same mass that scores below s, is uniform at every mass. It climbs with s,
so at fixed mass nothing of the separation is lost (arXiv:2211.02486); what the mass alone told is given up.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from jettag.errors import DataError
from jettag.weak.checks import FloatArray, finite
from jettag.weak.flow import FlowSettings, fit_flow
from jettag.weak.sculpting import equal_edges

__all__ = ["Decorrelation", "binned_cumulative", "flow_cumulative", "largest_deviation", "planing_weights"]

BINS = 20  # of the mass, equally populated
KNOTS = 201  # quantiles kept of each
FEWEST = 50  # background events in a bin
PLANING_BINS = 50
MOST_WEIGHT = 50.0

# (scores (n,), masses (n,)) -> (n,) scores without the mass, 0 to 1
Decorrelation = Callable[[npt.NDArray, npt.NDArray], FloatArray]


@dataclass(frozen=True)
class _Binned:
    """Quantiles of the score in bins of mass, straight lines between their centres."""

    centers: FloatArray
    knots: FloatArray  # (bins, K)

    def __call__(self, score: npt.NDArray, mass: npt.NDArray) -> FloatArray:
        share = np.linspace(0, 1, self.knots.shape[1])
        # (bins, n): where each score would stand in every bin; two of them count for an event.
        standing = np.stack([_mid_interp(score, knots, share) for knots in self.knots])
        place = np.interp(mass, self.centers, np.arange(len(self.centers)))
        low = np.minimum(place.astype(int), len(self.centers) - 1)
        high = np.minimum(low + 1, len(self.centers) - 1)
        rows, above = np.arange(len(score)), place - low
        result: FloatArray = (1 - above) * standing[low, rows] + above * standing[high, rows]
        return result


def _mid_interp(score: npt.NDArray, knots: npt.NDArray, share: npt.NDArray) -> FloatArray:
    """Cumulative share at each score; where several quantiles are one score, the middle of them."""
    upper = np.interp(score, knots, share)
    lower = 1 - np.interp(-score, -knots[::-1], share)
    middle: FloatArray = (upper + lower) / 2
    return middle


def binned_cumulative(score: npt.ArrayLike, mass: npt.ArrayLike, *, bins: int = BINS) -> Decorrelation:
    """Fit F(s | m) on background in bins of equal population.

    Args:
        score: (n,) of background that trained no classifier.
        mass: (n,).
        bins: of the mass.

    Raises:
        DataError: too few events, or a value is not finite.
    """
    scores, masses = finite(score, "scores"), finite(mass, "masses")
    edges = equal_edges(masses, bins)
    if len(masses) < FEWEST * bins or len(edges) < 2:
        what = f"{len(masses)} background events are too few for {bins} bins of the mass"
        raise DataError(what, do="give more files in --background")
    place = np.digitize(masses, edges[1:-1])
    inside = [place == number for number in range(len(edges) - 1)]
    return _Binned(
        centers=np.array([np.median(masses[chosen]) for chosen in inside]),
        knots=np.stack([np.quantile(scores[chosen], np.linspace(0, 1, KNOTS)) for chosen in inside]),
    )


def flow_cumulative(
    score: npt.ArrayLike, mass: npt.ArrayLike, *, settings: FlowSettings | None = None, seed: int = 0
) -> Decorrelation:
    """Fit F(s | m) on background by a monotone spline flow conditioned on the mass, without bins.

    Args:
        score: (n,) of background that trained no classifier.
        mass: (n,).
        settings: of the flow.
        seed: of its training.

    Raises:
        DataError: too few events, or a value is not finite.
        ResourceError: zuko is not installed.
    """
    scores, masses = finite(score, "scores"), finite(mass, "masses")
    flow = fit_flow(scores[:, None], masses, settings=settings, seed=seed)

    def apply(values: npt.NDArray, at: npt.NDArray) -> FloatArray:
        cumulative: FloatArray = norm.cdf(flow.latent(np.asarray(values, dtype=np.float64)[:, None], at)[:, 0])
        return cumulative

    return apply


def planing_weights(mass: npt.ArrayLike, label: npt.NDArray) -> FloatArray:
    """(n,) weights with which the mass is flat in each class, as far as events go; mean 1 in each.

    Args:
        mass: (n,).
        label: (n,) 0 or 1.

    Raises:
        DataError: a mass is not finite.
    """
    masses = finite(mass, "masses")
    low, high = np.quantile(masses, [0.001, 0.999])
    place = np.clip(((masses - low) / max(high - low, 1e-12) * PLANING_BINS).astype(int), 0, PLANING_BINS - 1)
    weight = np.ones(len(masses))
    for value in np.unique(label):
        own = label == value
        counts = np.bincount(place[own], minlength=PLANING_BINS)
        raw = 1 / counts[place[own]]
        raw = np.minimum(raw, MOST_WEIGHT * np.median(raw))
        weight[own] = raw / raw.mean()
    return weight


def largest_deviation(mass: npt.ArrayLike, passed: npt.NDArray[np.bool_], *, bins: int = 10) -> float:
    """Largest |eps_B(m) / eps_B - 1| over mass bins of equal population."""
    masses = finite(mass, "masses")
    edges = equal_edges(masses, bins)
    place = np.digitize(masses, edges[1:-1])
    overall = passed.mean()
    if not 0 < overall < 1:
        raise DataError("a cut that keeps all or nothing", do="give another score")
    each = np.array([passed[place == number].mean() for number in range(len(edges) - 1)])
    return float(np.abs(each / overall - 1).max())
