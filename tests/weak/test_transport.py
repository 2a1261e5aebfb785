"""Optimal transport: the monotone map in one dimension, a shift in many, and scores that forget a mass."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from jettag.errors import DataError
from jettag.weak.sculpting import sculpting
from jettag.weak.transport import transport_embeddings, transport_scores, transported_cumulative

from .test_decorrelation import background


def test_scores_take_the_targets_distribution_in_their_own_order():
    random = np.random.default_rng(0)
    source, target = random.normal(0, 1, 20_000), random.normal(1, 2, 20_000)
    move = transport_scores(source, target)
    x = np.linspace(-2, 2, 41)
    assert move(x) == pytest.approx(1 + 2 * x, abs=0.15)  # the map between two Gaussians
    assert (np.diff(move(np.linspace(-9, 9, 200))) > 0).all()
    assert move(random.normal(size=5000)).std() == pytest.approx(2, abs=0.1)
    assert move(np.array([0.0]))[0] == pytest.approx(1, abs=0.1)


def test_a_shifted_embedding_is_shifted_back():
    random = np.random.default_rng(1)
    shift = np.array([1.0, -2.0, 0.5])
    source, target = random.normal(size=(3000, 3)), random.normal(size=(3000, 3)) + shift
    move = transport_embeddings(source, target)
    unseen = random.normal(size=(2000, 3))
    moved = move(unseen)
    assert (moved - unseen).mean(0) == pytest.approx(shift, abs=0.1)
    assert (moved - unseen - shift).std() < 0.6  # of single events: the plan is between draws
    assert np.cov(moved.T).diagonal() == pytest.approx(np.ones(3), abs=0.25)


def test_background_forgets_the_mass():
    move = transported_cumulative(*background(8000, 0))
    score, mass = background(8000, 1)
    flat = move(score, mass)
    before, after = (sculpting(mass, values > np.quantile(values, 0.5)) for values in (score, flat))
    assert after.jsd_nats < 0.1 * before.jsd_nats
    at = np.full(200, 1.5)
    assert spearmanr(move(np.linspace(0.1, 0.9, 200), at), np.arange(200)).statistic > 0.98


def test_too_few_events_are_one_line():
    with pytest.raises(DataError, match="too few for a transport"):
        transport_scores(np.arange(10), np.arange(100))
    with pytest.raises(DataError, match="NaN"):
        transport_embeddings(np.full((100, 2), np.nan), np.ones((100, 2)))
