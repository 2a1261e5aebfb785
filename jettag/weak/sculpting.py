"""Does a cut change the mass spectrum of the background? A chi2 per degree of freedom and a divergence in nats."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency

from jettag.errors import DataError
from jettag.weak.checks import FloatArray, finite

__all__ = ["Sculpting", "divergence", "equal_edges", "keep_share", "sculpting"]

MOST_BINS = 300  # of arXiv:2210.14924
DIVERGENCE_BINS = 50
EXPECTED_IN_BIN = 10.0  # events expected to pass in a bin, at least: below this chi2 has no chi2 distribution
FLOOR_SPLITS = 10


@dataclass(frozen=True)
class Sculpting:
    """How far the background that passes differs in mass from the background that fails.

    Attributes:
        chi2_per_ndof: Pearson's of the table (pass, fail) x mass bins; 1 on average where the cut ignores the mass.
        ndof: mass bins less one.
        p_value: probability of a larger chi2 where the cut ignores the mass.
        jsd_nats: Jensen-Shannon divergence of the two spectra, natural logarithm (not its square root).
        jsd_floor_nats: its mean over random cuts of the same efficiency.
        background_efficiency: events that pass over all.
    """

    chi2_per_ndof: float
    ndof: int
    p_value: float
    jsd_nats: float
    jsd_floor_nats: float
    background_efficiency: float


def equal_edges(mass: npt.NDArray, bins: int) -> FloatArray:
    """(at most bins + 1,) edges between which equally many events lie."""
    edges = np.unique(np.quantile(mass, np.linspace(0, 1, bins + 1)))
    edges[-1] = np.nextafter(edges[-1], np.inf)
    return edges


def divergence(first: npt.NDArray, second: npt.NDArray, edges: npt.NDArray) -> float:
    """Jensen-Shannon divergence in nats, from 0 to log 2, of two samples in bins; scipy returns its square root."""
    counts = [np.histogram(values, edges)[0] for values in (first, second)]
    return float(jensenshannon(*counts) ** 2)


def keep_share(
    scores: npt.NDArray, others: npt.NDArray, share: float, random: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """(n,) events that pass a cut which a share of others pass; of those that tie with it, as many as it takes.

    Args:
        scores: (n,) higher passes.
        others: (m,) scores that decide the cut.
        share: of them, above 0 and below 1.
        random: draws among ties.
    """
    cut = np.quantile(others, 1 - share, method="higher")
    tied = (share - np.mean(others > cut)) / np.mean(others == cut)
    passed: npt.NDArray[np.bool_] = (scores > cut) | ((scores == cut) & (random.random(len(scores)) < tied))
    return passed


def sculpting(mass: npt.ArrayLike, passed: npt.NDArray[np.bool_], *, seed: int = 0) -> Sculpting:
    """Compare the mass spectra of background that passes a cut and that fails it, in bins of equal population.

    Args:
        mass: (n,) of background events alone, any unit.
        passed: (n,) whether each passes.
        seed: of the random cuts behind the floor.

    Raises:
        DataError: too few events pass or fail to fill two bins, or a mass is not finite.
    """
    values = finite(mass, "masses")
    fewer = min(np.count_nonzero(passed), np.count_nonzero(~passed))
    bins = min(MOST_BINS, int(fewer / EXPECTED_IN_BIN))
    edges = equal_edges(values, max(bins, 1))
    if bins < 2 or len(edges) < 3:
        what = f"{np.count_nonzero(passed)} of {len(values)} events pass: too few to tell a mass spectrum"
        raise DataError(what, do="give more background events, or a looser cut")
    table = [np.histogram(values[chosen], edges)[0] for chosen in (passed, ~passed)]
    statistic, p_value, ndof, _ = chi2_contingency(table, correction=False)
    coarse = equal_edges(values, min(DIVERGENCE_BINS, bins))
    random = np.random.default_rng(seed)
    floor = [_random_divergence(values, passed, coarse, random) for _ in range(FLOOR_SPLITS)]
    return Sculpting(
        chi2_per_ndof=float(statistic / ndof),
        ndof=int(ndof),
        p_value=float(p_value),
        jsd_nats=divergence(values[passed], values[~passed], coarse),
        jsd_floor_nats=float(np.mean(floor)),
        background_efficiency=float(np.mean(passed)),
    )


def _random_divergence(
    values: FloatArray, passed: npt.NDArray[np.bool_], edges: npt.NDArray, random: np.random.Generator
) -> float:
    shuffled = random.permutation(passed)
    return divergence(values[shuffled], values[~shuffled], edges)
