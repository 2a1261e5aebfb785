"""R-ANODE: a peak is found with its fraction and place; without one no event is more like signal than another."""

import numpy as np
import pytest
from scipy.stats import norm

from jettag.weak.flow import FlowSettings
from jettag.weak.signal_flow import MOST_GAIN, fit_signal_flow

SMALL = FlowSettings(transforms=1, hidden=16, bins=6, epochs=12, patience=12, batch_size=256, learning_rate=1e-2)


class Exact:
    """The true background: one feature, normal around the mass with a width of a half."""

    def log_prob(self, features, mass):
        return norm.logpdf(features[:, 0], mass, 0.5)


def events(seed, peak, n=3000):
    random = np.random.default_rng(seed)
    mass = random.uniform(-1, 1, n)
    feature = mass + 0.5 * random.normal(size=n)
    feature[:peak] = random.normal(1.5, 0.05, peak)
    return feature[:, None].astype(np.float32), mass


def test_fraction_and_place_of_a_peak_are_found():
    model = fit_signal_flow(*events(0, 150), Exact(), settings=SMALL, folds=2)
    assert model.found
    assert model.fraction == pytest.approx(0.05, abs=0.025)
    ratio = model.log_ratio(np.array([[1.5], [0.0]]), np.zeros(2))
    assert ratio[0] > ratio[1] + 2


@pytest.mark.parametrize("seed", range(1, 5))
def test_without_signal_no_event_is_more_like_signal_than_another(seed):
    features, mass = events(seed, 0)
    model = fit_signal_flow(features, mass, Exact(), settings=SMALL, folds=2, seed=seed)
    assert not model.found
    assert model.fraction == 0
    assert np.ptp(model.log_ratio(features, mass)) == 0


def test_one_outlier_is_no_signal():
    """An event where the background was thought to be impossible: its gain is bounded, and below what is wanted."""

    class Blind(Exact):
        def log_prob(self, features, mass):
            return np.where(features[:, 0] > 3, -80.0, super().log_prob(features, mass))

    features, mass = events(5, 0)
    features[7] = 3.2
    model = fit_signal_flow(features, mass, Blind(), settings=SMALL, folds=2)
    assert model.wanted > MOST_GAIN
    assert not model.found
