"""Decorrelated scores: uniform at every mass, the ROC at fixed mass untouched, and the divergence at its floor."""

import numpy as np
import pytest
from scipy.stats import kstest, rankdata

from jettag.errors import DataError
from jettag.weak.decorrelation import binned_cumulative, flow_cumulative, largest_deviation, planing_weights
from jettag.weak.flow import FlowSettings
from jettag.weak.sculpting import sculpting

SMALL = FlowSettings(transforms=1, hidden=16, bins=8, epochs=15, patience=5, batch_size=512, learning_rate=1e-2)


def background(n, seed):
    """Scores that follow the mass."""
    random = np.random.default_rng(seed)
    mass = random.uniform(0, 3, n)
    return 1 / (1 + np.exp(-(mass - 1.5 + random.normal(size=n)))), mass


@pytest.fixture(scope="module", params=["binned", "flow"])
def fitted(request):
    scores = background(8000, 0)
    return binned_cumulative(*scores) if request.param == "binned" else flow_cumulative(*scores, settings=SMALL)


def test_background_is_uniform_at_every_mass_and_not_sculpted(fitted):
    score, mass = background(8000, 1)
    flat = fitted(score, mass)
    for part in (mass < 0.5, np.abs(mass - 1.5) < 0.3, mass > 2.5):
        assert kstest(flat[part], "uniform").statistic < 0.08
    before, after = (sculpting(mass, values > np.quantile(values, 0.5)) for values in (score, flat))
    assert before.jsd_nats > 0.05
    assert after.jsd_nats < 0.05 * before.jsd_nats
    assert largest_deviation(mass, flat > 0.5) < 0.15 < largest_deviation(mass, score > np.median(score))


def test_at_fixed_mass_the_order_of_scores_is_kept(fitted):
    score = np.linspace(0.02, 0.98, 200)
    for mass in (0.3, 1.5, 2.7):
        flat = fitted(score, np.full(200, mass))
        assert (np.diff(flat) >= 0).all()
        inside = (flat > 0.01) & (flat < 0.99)
        assert np.array_equal(rankdata(flat[inside]), rankdata(score[inside]))


def test_planing_makes_the_mass_the_same_in_both_classes():
    random = np.random.default_rng(2)
    mass = np.concatenate([random.uniform(0, 1, 5000), random.beta(2, 2, 5000)])
    label = np.repeat([0, 1], 5000)
    weight = planing_weights(mass, label)
    middle = (mass > 0.1) & (mass < 0.9)
    histograms = [
        np.histogram(mass[middle & (label == k)], 8, weights=weight[middle & (label == k)])[0] for k in (0, 1)
    ]
    ratio = histograms[0] / histograms[1]
    assert np.abs(ratio / ratio.mean() - 1).max() < 0.1
    assert weight[label == 1].mean() == pytest.approx(1)


def test_ties_and_too_few_events():
    with pytest.raises(DataError, match="too few for 20 bins"):
        binned_cumulative(*background(500, 3))
    random = np.random.default_rng(4)
    tied = binned_cumulative(random.integers(0, 3, 4000).astype(float), random.random(4000))
    assert tied(np.array([0.0, 1.0, 2.0]), np.full(3, 0.5)) == pytest.approx([1 / 6, 1 / 2, 5 / 6], abs=0.05)
