"""The conditional flow: a normalised density, an inverse of itself, and a latent space without the mass."""

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.stats import kstest

from jettag.errors import DataError
from jettag.weak.flow import FlowSettings, fit_flow

SMALL = FlowSettings(transforms=1, hidden=16, bins=6, epochs=20, patience=5, batch_size=512, learning_rate=1e-2)


def moving(n, seed):
    """One feature whose mean is the mass."""
    random = np.random.default_rng(seed)
    mass = random.uniform(-1, 1, n)
    return (mass + 0.5 * random.normal(size=n))[:, None].astype(np.float32), mass


@pytest.fixture(scope="module")
def fitted():
    return fit_flow(*moving(5000, 0), settings=SMALL, seed=1)


def test_the_density_is_normalised_and_near_the_true_one(fitted):
    x = np.linspace(-2.4, 2.4, 400)
    for mass in (-0.6, 0.0, 0.6):
        density = np.exp(fitted.log_prob(x[:, None], np.full(400, mass)))
        assert trapezoid(density, x) == pytest.approx(1, abs=0.03)
        true = np.exp(-((x - mass) ** 2) / 0.5) / np.sqrt(0.5 * np.pi)
        assert np.abs(density - true).mean() < 0.05


def test_samples_and_latents_follow_what_was_fitted(fitted):
    features, mass = moving(2000, 2)
    drawn = fitted.sample(mass, seed=3)
    assert np.array_equal(drawn, fitted.sample(mass, seed=3))
    assert (drawn[:, 0] - mass).std() == pytest.approx(0.5, abs=0.06)
    latent = fitted.latent(features, mass)[:, 0]
    assert kstest(latent, "norm").statistic < 0.06
    for part in (mass < -0.3, np.abs(mass) < 0.3, mass > 0.3):
        assert abs(latent[part].mean()) < 0.15


def test_bad_events_are_one_line():
    features, mass = moving(300, 0)
    with pytest.raises(DataError, match="constant"):
        fit_flow(np.ones((300, 1)), mass, settings=SMALL)
    with pytest.raises(DataError, match="NaN"):
        fit_flow(np.full((300, 1), np.nan), mass, settings=SMALL)
    with pytest.raises(DataError, match="too few for a flow"):
        fit_flow(features[:80], mass[:80], settings=SMALL)
