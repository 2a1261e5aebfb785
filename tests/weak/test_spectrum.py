"""The dijet fit recovers what it drew, p-values are uniform without signal, and a known excess has its known size."""

import numpy as np
import pytest
from scipy.stats import kstest, norm, poisson

from jettag.errors import DataError, UsageError
from jettag.weak.spectrum import bump_hunt, excess, fit_spectrum, local_p_value
from jettag.weak.windows import Window, sliding_windows

EDGES = np.geomspace(2000, 6000, 41)
REGION = (EDGES[:-1] >= 3200) & (EDGES[:-1] < 3700)


def spectrum(events, p1=8.0, p2=4.0):
    x = np.sqrt(EDGES[1:] * EDGES[:-1]) / 13_000
    shape = (1 - x) ** p1 / x**p2 * np.diff(EDGES)
    return events * shape / shape.sum()


def test_the_fit_recovers_the_spectrum_it_was_drawn_from():
    truth = spectrum(100_000)
    exact = fit_spectrum(truth, EDGES, ~REGION)
    assert np.allclose(exact.expected, truth, rtol=1e-6)
    assert exact.chi2 < 1e-6
    random = np.random.default_rng(0)
    pulls, chi2 = [], []
    for _ in range(200):
        fit = fit_spectrum(random.poisson(truth), EDGES, ~REGION)
        expected, sigma = fit.in_bins(REGION)
        pulls.append((expected - truth[REGION].sum()) / sigma)
        chi2.append(fit.p_value)
    assert np.std(pulls) == pytest.approx(1, abs=0.15)
    assert abs(np.mean(pulls)) < 0.3
    assert kstest(chi2, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("events", [2000, 200_000])
def test_without_signal_local_p_values_are_uniform(events):
    random = np.random.default_rng(1)
    truth = spectrum(events)
    found = [excess(random.poisson(truth), EDGES, REGION).p_value for _ in range(300)]
    assert kstest(found, "uniform").pvalue > 1e-3


def test_a_known_excess_has_its_known_significance():
    truth = spectrum(100_000)
    counts = truth.copy()
    b = truth[REGION].sum()
    counts[np.flatnonzero(REGION)[0]] += 5 * np.sqrt(b)
    found = excess(counts.round(), EDGES, REGION)
    fitted = found.sigma**2 / b  # variance of the expectation in units of Poisson's
    assert found.significance == pytest.approx(5 / np.sqrt(1 + fitted), rel=0.1)
    assert found.observed == pytest.approx(b + 5 * np.sqrt(b), abs=20)
    assert local_p_value(10, 4.0, 0.0) == pytest.approx(poisson.sf(9, 4.0))
    assert local_p_value(10, 4.0, 1e-3) == pytest.approx(poisson.sf(9, 4.0), rel=1e-3)
    assert local_p_value(0, 4.0, 1.0) == 1.0
    assert norm.isf(local_p_value(130, 100.0, 10.0)) == pytest.approx(30 / np.sqrt(200), rel=0.1)


def test_the_bump_hunter_finds_the_bump_and_pays_for_looking_elsewhere():
    random = np.random.default_rng(2)
    expected = spectrum(20_000)
    counts = random.poisson(expected)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    nothing = bump_hunt(counts, expected, EDGES, widest=4, toys=200)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert nothing.global_p_value > 0.02
    assert nothing.global_p_value > nothing.local_p_value
    counts[20:22] += (4 * np.sqrt(expected[20:22])).astype(int)
    found = bump_hunt(counts, expected, EDGES, widest=4, toys=200)
    assert found.global_p_value < 0.02
    assert EDGES[19] <= found.low < found.high <= EDGES[23]


def test_windows_and_spectra_that_cannot_be():
    for values, said in (((3, 3, 1, 5), "empty signal region"), ((3, 4, 3, 5), "overlap"), ((3, 4, 2, 4), "overlap")):
        with pytest.raises(UsageError, match=said):
            Window(*values)
    window = Window(3, 4, 2, 5)
    mass = np.array([1.0, 2.5, 2.5, 3.5, 4.5, 5.5])
    weight = window.weights(mass)
    assert weight[[0, 5]].tolist() == [0, 0]
    assert weight[3] == pytest.approx(2 * weight[[1, 2]].sum())
    assert weight[4] == pytest.approx(weight[[1, 2]].sum())
    slid = sliding_windows(tuple(range(10)))
    assert [(one.low, one.high, one.side_low, one.side_high, b) for one, b in slid] == [
        (2, 5, 0, 7, 3), (3, 6, 1, 8, 4), (4, 7, 2, 9, 5)
    ]  # fmt: skip
    with pytest.raises(UsageError, match="6 mass bins"):
        sliding_windows(tuple(range(7)))
    with pytest.raises(DataError, match="too few"):
        fit_spectrum(np.zeros(40), EDGES, ~REGION)
    with pytest.raises(DataError, match="between 0 and 13000"):
        fit_spectrum(np.ones(40), EDGES * 1000, ~REGION)
