"""What ends a training without labels: the loss of events held out, or ARGOS."""

import itertools

import numpy as np
import pytest
import torch

from jettag.weak.classifiers import make_trees
from jettag.weak.measures import argos, max_sic, sic_curve
from jettag.weak.neural import VOTERS, make_neural


def mixed(n, share, seed):
    """Features, label (1 for the sample that holds signal) and truth: signal sits in a corner of two features."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(2 * n, 3))
    label = np.repeat([1, 0], n)
    truth = (random.random(2 * n) < share) & (label == 1)
    features[truth, :2] = random.normal(2.0, 0.4, (truth.sum(), 2))
    return features.astype(np.float32), label, truth


@pytest.mark.parametrize("make", [make_trees, make_neural])
@pytest.mark.parametrize("selection", ["loss", "argos"])
def test_either_finds_a_signal_and_repeats_itself(make, selection):
    features, label, _ = mixed(3000, 0.05, 0)
    test, _, truth = mixed(6000, 0.3, 1)
    score, again = (make(2, selection).fit(features, label).predict_proba(test)[:, 1] for _ in range(2))
    assert max_sic(sic_curve(score[truth], score[~truth])).value > 3
    assert np.array_equal(score, again)


@pytest.mark.parametrize("make", [make_trees, make_neural])
def test_the_two_differ(make):
    features, label, _ = mixed(2000, 0.03, 3)
    loss, ranked = (make(0, one).fit(features, label).predict_proba(features) for one in ("loss", "argos"))
    assert not np.array_equal(loss, ranked)


def test_trees_end_when_argos_of_the_events_held_out_rises_no_more():
    features, label, _ = mixed(3000, 0.05, 4)
    trees = make_trees(0, "argos").fit(features, label)
    scores = trees.validation_score_
    assert len(scores) < 201  # before the last tree allowed
    assert max(scores[-10:]) <= scores[-11] + trees.tol  # its patience
    # Of all events the number is that of the function, label 0 being the template.
    everything = trees.predict_proba(features)[:, 1]
    whole = argos(everything[label == 1], everything[label == 0])
    assert trees._scorer(trees, features, label) == pytest.approx(whole)
    weight = np.where(label == 0, np.random.default_rng(6).integers(1, 4, len(label)), 1)
    found = trees._scorer(trees, features, label, sample_weight=weight)
    template = everything[label == 0]
    assert found == pytest.approx(argos(everything[label == 1], template, template_weight=weight[label == 0]))
    assert found != pytest.approx(whole)


def test_the_epochs_of_the_highest_argos_vote(monkeypatch):
    """Where ARGOS rises from epoch to epoch, the last ones: those that a training with the same seed ends with."""
    features, label, _ = mixed(500, 0.05, 5)
    rising = itertools.count()
    monkeypatch.setattr("jettag.weak.neural.argos", lambda *_, **__: float(next(rising)))
    last = make_neural(1, "argos").fit(features, label)
    falling = itertools.count(0, -1)
    monkeypatch.setattr("jettag.weak.neural.argos", lambda *_, **__: float(next(falling)))
    first = make_neural(1, "argos").fit(features, label)
    assert len(last._states) == len(first._states) == VOTERS
    final = last._network.state_dict()
    assert all(torch.equal(last._states[0][key], value) for key, value in first._network.state_dict().items())
    assert not torch.equal(first._states[0]["0.weight"], final["0.weight"])
    monkeypatch.undo()
    flat, flat_label = features[:40].copy(), label[:40] * 0
    flat_label[0] = 1  # one event of the data: held out or not, there is nothing to rank but the loss
    make_neural(0, "argos").fit(flat, flat_label)
