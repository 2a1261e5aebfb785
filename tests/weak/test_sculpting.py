"""Sculpting: nothing where the cut ignores the mass, a formula where it does not."""

import numpy as np
import pytest
from scipy.stats import kstest

from jettag.errors import DataError
from jettag.weak.sculpting import divergence, equal_edges, keep_share, sculpting


def test_a_cut_that_ignores_the_mass_has_chi2_per_ndof_one_and_uniform_p_values():
    found = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        found.append(sculpting(random.exponential(1, 6000), random.random(6000) < 0.1, seed=seed))
    assert np.mean([one.chi2_per_ndof for one in found]) == pytest.approx(1, abs=0.06)
    assert kstest([one.p_value for one in found], "uniform").pvalue > 1e-3
    ratio = np.mean([one.jsd_nats for one in found]) / np.mean([one.jsd_floor_nats for one in found])
    assert ratio == pytest.approx(1, abs=0.1)


def test_a_cut_on_the_mass_is_found():
    random = np.random.default_rng(1)
    mass = random.exponential(1, 20_000)
    found = sculpting(mass, random.random(20_000) < np.clip(0.05 + 0.1 * mass, 0, 1))
    assert found.chi2_per_ndof > 3
    assert found.p_value < 1e-10
    assert found.jsd_nats > 5 * found.jsd_floor_nats
    everything = sculpting(mass, mass > np.median(mass))
    assert everything.jsd_nats == pytest.approx(np.log(2), rel=1e-6)


def test_the_divergence_is_in_nats_and_not_its_root():
    edges = np.array([0.0, 1.0, 2.0])
    p, q = np.array([0.75, 0.25]), np.array([0.25, 0.75])
    m = (p + q) / 2
    expected = 0.5 * np.sum(p * np.log(p / m)) + 0.5 * np.sum(q * np.log(q / m))
    assert divergence(np.array([0.5] * 3 + [1.5]), np.array([0.5] + [1.5] * 3), edges) == pytest.approx(expected)


def test_edges_hold_equally_many_and_too_few_events_are_told():
    values = np.random.default_rng(0).normal(size=1000)
    assert np.histogram(values, equal_edges(values, 10))[0].tolist() == [100] * 10
    with pytest.raises(DataError, match="too few"):
        sculpting(values, np.arange(1000) < 5)


@pytest.mark.parametrize("levels", [1, 7, 100_000])
def test_a_share_passes_however_many_scores_tie_and_ties_do_not_sculpt(levels):
    """Scores that are all the same cut at random."""
    random = np.random.default_rng(3)
    scores, others = (random.integers(0, levels, 20_000).astype(float) for _ in range(2))
    passed = keep_share(scores, others, 0.05, random)
    assert passed.mean() == pytest.approx(0.05, abs=0.008)
    assert sculpting(random.normal(size=20_000), passed).p_value > 1e-3
    if levels > 1:
        assert scores[passed].min() >= scores[~passed].max()
