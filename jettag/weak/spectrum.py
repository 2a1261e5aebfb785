"""A falling mass spectrum: the dijet function fitted outside the signal region, and how odd the count inside is.

f(x) = p0 (1 - x)^p1 / x^(p2 + p3 log x), x = m / sqrt(s). Its logarithm is linear in log p0, p1, p2, p3, so the Poisson
likelihood has one maximum, which Newton's steps find.
"""

import contextlib
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, gammaincc
from scipy.stats import norm, poisson

from jettag.errors import DataError, ResourceError
from jettag.weak.checks import FloatArray

__all__ = ["BumpHunt", "Excess", "SpectrumFit", "bump_hunt", "excess", "fit_spectrum", "local_p_value"]

BEAM_ENERGY = 13_000.0  # GeV
STEPS = 100
TOYS = 1000


@dataclass(frozen=True)
class SpectrumFit:
    """The dijet function fitted to some bins.

    Attributes:
        expected: (b,) events in every bin, fitted or not.
        gradient: (b, P) of them in the parameters.
        covariance: (P, P) of the parameters.
        chi2: Pearson's of the fitted bins.
        ndof: fitted bins less the parameters.
    """

    expected: FloatArray
    gradient: FloatArray
    covariance: FloatArray
    chi2: float
    ndof: int

    @property
    def p_value(self) -> float:
        """Probability of a larger chi2."""
        return float(gammaincc(self.ndof / 2, self.chi2 / 2))

    def in_bins(self, chosen: npt.NDArray[np.bool_]) -> tuple[float, float]:
        """Expected events in the chosen bins and their standard deviation from the fit."""
        gradient = self.gradient[chosen].sum(0)
        return float(self.expected[chosen].sum()), float(np.sqrt(max(gradient @ self.covariance @ gradient, 0.0)))


@dataclass(frozen=True)
class Excess:
    """A signal region after a cut.

    Attributes:
        observed: events in it.
        expected: from the fit outside it.
        sigma: of the expectation.
        p_value: local, one-sided.
        significance: the same in standard deviations of a Gaussian.
        fit_p_value: goodness of the fit outside.
    """

    observed: int
    expected: float
    sigma: float
    p_value: float
    significance: float
    fit_p_value: float


def fit_spectrum(
    counts: npt.NDArray,
    edges: npt.NDArray,
    fitted: npt.NDArray[np.bool_],
    *,
    parameters: int = 3,
    beam_energy: float = BEAM_ENERGY,
) -> SpectrumFit:
    """Fit the dijet function by Poisson likelihood.

    Args:
        counts: (b,) events in the bins.
        edges: (b + 1,) in the unit of ``beam_energy``.
        fitted: (b,) bins that take part.
        parameters: 3, or 4 with p3.
        beam_energy: sqrt(s).

    Raises:
        DataError: too few filled bins, a mass beyond the beam energy, or no maximum.
    """
    if edges[0] <= 0 or edges[-1] >= beam_energy:
        what = f"masses from {edges[0]:g} to {edges[-1]:g} do not lie between 0 and {beam_energy:g}"
        raise DataError(what, do="give --mass in GeV, or --range")
    if np.count_nonzero(counts[fitted]) <= parameters:
        what = f"{int(counts[fitted].sum())} events outside the signal region are too few for the dijet function"
        raise DataError(what, do="give more events, or a looser --efficiency")
    x = np.sqrt(edges[1:] * edges[:-1]) / beam_energy
    design = np.stack([np.ones(len(x)), np.log1p(-x), -np.log(x), -(np.log(x) ** 2)][:parameters], axis=1)
    width = np.diff(edges)
    # Columns that are alike to the eye of the matrix: an orthogonal basis keeps Newton's steps exact.
    basis, _ = np.linalg.qr(design * np.sqrt(width)[:, None])
    basis /= np.sqrt(width)[:, None]
    inside, n = basis[fitted], counts[fitted].astype(np.float64)
    guess = np.log((n + 0.5) / width[fitted])
    theta = np.linalg.lstsq(inside * np.sqrt(n + 0.5)[:, None], guess * np.sqrt(n + 0.5), rcond=None)[0]
    for _ in range(STEPS):
        mu = width[fitted] * np.exp(np.clip(inside @ theta, -700, 50))
        fisher = inside.T @ (inside * mu[:, None])
        step = np.linalg.lstsq(fisher, inside.T @ (n - mu), rcond=None)[0]
        theta = theta + step
        if np.abs(inside @ step).max() < 1e-9:
            break
    else:
        raise DataError("the dijet function does not fit the spectrum", do="give more events, or another --range")
    expected = width * np.exp(np.clip(basis @ theta, -700, 50))
    mu = expected[fitted]
    return SpectrumFit(
        expected=expected,
        gradient=basis * expected[:, None],
        covariance=np.linalg.pinv(inside.T @ (inside * mu[:, None])),
        chi2=float(np.sum((n - mu) ** 2 / mu)),
        ndof=int(np.count_nonzero(fitted)) - parameters,
    )


def local_p_value(observed: int, expected: float, sigma: float) -> float:
    """Probability of at least so many events, the expectation known to ``sigma``.

    The side-bands count as an auxiliary measurement of (b / sigma)^2 events: the binomial p-value of Cousins, Linnemann
    and Tucker, arXiv:physics/0702156. It is never too small on average, and Poisson's where ``sigma`` is zero.
    """
    if observed == 0:
        return 1.0
    if sigma == 0 or expected / sigma**2 > 1e9:
        return float(poisson.sf(observed - 1, expected))
    ratio = expected / sigma**2
    return float(betainc(observed, ratio * expected + 1, 1 / (1 + ratio)))


def excess(counts: npt.NDArray, edges: npt.NDArray, region: npt.NDArray[np.bool_], *, parameters: int = 3) -> Excess:
    """Fit the bins outside the region, and compare with the count inside.

    Args:
        counts: (b,).
        edges: (b + 1,) [GeV].
        region: (b,) bins of the signal region.
        parameters: of the dijet function.

    Raises:
        DataError: as `fit_spectrum`.
    """
    fit = fit_spectrum(counts, edges, ~region, parameters=parameters)
    observed = int(counts[region].sum())
    expected, sigma = fit.in_bins(region)
    p_value = local_p_value(observed, expected, sigma)
    return Excess(observed, expected, sigma, p_value, float(norm.isf(p_value)), fit.p_value)


@dataclass(frozen=True)
class BumpHunt:
    """Where a histogram rises most above its background, and how often that happens by chance.

    Attributes:
        low: lower edge of the bump.
        high: upper edge.
        local_p_value: of that place alone.
        global_p_value: of any place, (toys as odd + 1) / (toys + 1).
        toys: pseudo-experiments.
    """

    low: float
    high: float
    local_p_value: float
    global_p_value: float
    toys: int


def bump_hunt(
    counts: npt.NDArray, expected: npt.NDArray, edges: npt.NDArray, *, widest: int, seed: int = 0, toys: int = TOYS
) -> BumpHunt:
    """BumpHunter (arXiv:1101.0390) by pyBumpHunter; toys fluctuate the counts, not the expectation.

    Args:
        counts: (b,) observed.
        expected: (b,) background.
        edges: (b + 1,).
        widest: bins of the widest bump.
        seed: of the toys.
        toys: how many.

    Raises:
        ResourceError: pyBumpHunter is not installed.
    """
    try:
        from pyBumpHunter import BumpHunter1D
    except ImportError:
        raise ResourceError("the global p-value needs pyBumpHunter", do='pip install "jettag[weak]"') from None
    state = np.random.get_state()  # noqa: NPY002 - pyBumpHunter seeds numpy's shared generator, and leaves it so
    try:
        hunter = BumpHunter1D(
            rang=(edges[0], edges[-1]),
            bins=np.asarray(edges),
            width_min=1,
            width_max=min(widest, len(counts)),
            npe=toys,
            nworker=1,
            seed=seed,
        )
        # Of a bump that no toy could make pyBumpHunter takes the logarithm of zero.
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(divide="ignore", invalid="ignore"):
            hunter.bump_scan(np.asarray(counts), np.asarray(expected), is_hist=True)
    finally:
        np.random.set_state(state)  # noqa: NPY002
    begin, width = int(hunter.min_loc_ar[0]), int(hunter.min_width_ar[0])
    return BumpHunt(
        low=float(edges[begin]),
        high=float(edges[begin + width]),
        local_p_value=float(hunter.min_Pval_ar[0]),
        global_p_value=(round(float(hunter.global_Pval) * toys) + 1) / (toys + 1),  # never zero
        toys=toys,
    )
