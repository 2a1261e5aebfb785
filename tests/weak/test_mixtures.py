"""Mixed samples, folds and features: counts, no jet twice, no jet on both sides."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from jettag.errors import DataError, UsageError
from jettag.weak.checks import check_features, check_weights
from jettag.weak.classifiers import make_linear, make_principal_trees, make_trees
from jettag.weak.features import columns_of, feature_matrix, with_noise
from jettag.weak.folds import assign_folds, fit_folds, fold_quantiles
from jettag.weak.mixtures import draw_mixture
from jettag.weak.study import judge, label_free


def test_a_mixture_has_the_fractions_asked_for_and_no_jet_twice():
    mixture = draw_mixture("cwola", 2000, 500, fraction=0.2, other_fraction=0.1, seed=3)
    assert len(set(mixture.background)) == len(mixture.background) == 2000
    assert len(set(mixture.signal)) == len(mixture.signal)
    truth = np.repeat([0, 1], [len(mixture.background), len(mixture.signal)])
    assert truth[mixture.label == 1].mean() == pytest.approx(0.2, abs=1e-3)
    assert truth[mixture.label == 0].mean() == pytest.approx(0.1, abs=1e-3)
    other = draw_mixture("cwola", 2000, 500, fraction=0.2, other_fraction=0.1, seed=4)
    assert set(other.signal) != set(mixture.signal)
    bound = draw_mixture("iad", 2000, 500, fraction=0.2, other_fraction=0.1, seed=3)
    assert len(bound.signal) == mixture.n_signal
    assert not bound.label[:2000][1000:].any()
    nothing = draw_mixture("cwola", 2000, 500, fraction=0.0, other_fraction=0.1, seed=3)
    assert len(nothing.signal) == 0
    ceiling = draw_mixture("supervised", 2000, 500, fraction=0.0, seed=3)
    assert ceiling.label.sum() == len(ceiling.signal) == 500


@pytest.mark.parametrize(
    ("values", "error", "said"),
    [
        ({"fraction": 1.0}, UsageError, "one class after the mixing"),
        ({"fraction": -0.1}, UsageError, "signal fraction"),
        ({"fraction": 0.1, "other_fraction": 0.2}, UsageError, "more signal than M1"),
        ({"fraction": 0.6}, DataError, "50 there"),
        ({"method": "cwole", "fraction": 0.1}, UsageError, "cwola"),
        ({"n_background": 1, "fraction": 0.1}, DataError, "cannot be split"),
        ({"method": "supervised", "n_signal": 0, "fraction": 0.1}, DataError, "one class"),
    ],
)
def test_mixtures_that_make_no_sense_are_one_line(values, error, said):
    with pytest.raises(error, match=said):
        draw_mixture(**{"method": "cwola", "n_background": 1000, "n_signal": 50, "seed": 0} | values)


class Remembers:
    """Scores an event by whether it was trained on."""

    def fit(self, features, label, *, sample_weight=None):
        self.known = set(features[:, 0].tolist())
        return self

    def predict_proba(self, features):
        seen = np.array([float(value in self.known) for value in features[:, 0]])
        return np.stack([1 - seen, seen], axis=1)


def test_no_event_is_scored_by_a_classifier_that_saw_it():
    label = np.repeat([0, 1], [70, 130])
    features = np.arange(200.0)[:, None]
    scores = fit_folds(lambda _: Remembers(), features, label, np.array([[500.0], [3.0]]), folds=5, seed=1)
    assert not scores.out_of_fold.any()
    assert scores.test.tolist() == [0.0, pytest.approx(0.8)]
    for value in (0, 1):
        counts = np.bincount(scores.fold[label == value], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_quantiles_of_a_fold_ignore_the_scale_of_its_scores():
    random = np.random.default_rng(0)
    scores, fold = random.random(1000), np.arange(1000) % 4
    stretched = scores * (1.0 + fold) + 10 * fold
    assert np.allclose(fold_quantiles(stretched, fold), fold_quantiles(scores, fold))
    reference = random.random(1000) < 0.5
    passed = fold_quantiles(stretched, fold, reference) > 0.9
    assert passed[reference].mean() == pytest.approx(0.1, abs=0.01)
    with pytest.raises(DataError, match="no event in fold 3"):
        fold_quantiles(scores, fold, fold < 3)


def toy(n, share, seed):
    random = np.random.default_rng(seed)
    signal = random.random(n) < share
    values = random.normal(size=(n, 3)) + 2.0 * signal[:, None] * np.array([1, 0.5, 0])
    return values.astype(np.float32), signal


@pytest.mark.parametrize(
    ("make", "share", "lost"),
    [(make_trees, 1.0, 0.02), (make_linear, 1.0, 0.01), (make_principal_trees(2), 1.0, 0.06), (make_trees, 0.7, 0.08)],
)
def test_mixed_samples_teach_what_labels_teach(make, share, lost):
    """With half signal in M1 the order is nearly that of the likelihood ratio, x + y / 2 here."""
    first, _ = toy(3000, 0.5, 0)
    second, _ = toy(3000, 0.0, 1)
    test, truth = toy(6000, 0.5, 2)
    label = np.repeat([1, 0], 3000)
    scores = fit_folds(make, np.concatenate([first, second]), label, test, folds=2, seed=0, share_of_features=share)
    found = judge(scores.test[truth], scores.test[~truth])
    best = judge(test[truth] @ [1, 0.5, 0], test[~truth] @ [1, 0.5, 0])
    assert found["auc"] > best["auc"] - lost
    free = label_free(scores, label)
    if share == 1:  # bagged members are worse than their mean
        assert free["mixture_auc"] == pytest.approx(0.5 + 0.5 * (found["auc"] - 0.5), abs=0.03)
    assert free["argos"] > 0.3


def trained(share, seed):
    """What trees gain on signal-like jets that were trained on two samples, of which the first holds ``share``."""
    (first, _), (second, _) = toy(1000, share, seed), toy(1000, 0.0, 50 + seed)
    test, truth = toy(4000, 0.5, 100 + seed)
    label = np.repeat([1, 0], 1000)
    scores = fit_folds(make_trees, np.concatenate([first, second]), label, test, folds=2, seed=seed)
    return judge(scores.test[truth], scores.test[~truth]) | label_free(scores, label)


def test_two_samples_without_signal_teach_nothing_of_it():
    """A training without signal is a random function of the features: no gain, and no side is taken on average."""
    nothing = [trained(0.0, seed) for seed in range(8)]
    assert 1.0 <= np.median([one["max_sic"] for one in nothing]) < 1.1  # no cut at all is 1
    for key in ("auc", "mixture_auc"):
        assert ttest_1samp([one[key] for one in nothing], 0.5).pvalue > 0.01, key
    # The same trainings with signal would not pass.
    something = [trained(0.1, seed) for seed in range(3)]
    assert np.median([one["max_sic"] for one in something]) > 1.5
    assert min(one["auc"] for one in something) > 0.7


def test_features_and_what_they_must_not_be():
    assert columns_of(["jet_mass", "tau21", "tau32"]) == ("mass", "tau2", "tau1", "tau3")
    values = {"mass": np.array([1, 2.0]), "tau1": np.array([0.5, 0.0]), "tau2": np.array([0.1, 0.0])}
    assert feature_matrix(values, ["mass", "tau21"]).tolist() == [[1.0, pytest.approx(0.2)], [2.0, 0.0]]
    noisy = with_noise(feature_matrix(values, ["mass"]), 2, [0])
    assert noisy.shape == (2, 3)
    mass = np.random.default_rng(0).normal(size=500)
    telling = [(function(mass)[:, None], "tells the mass") for function in (np.exp, np.abs, lambda m: (m - 1) ** 2)]
    for features, said in ((np.array([[1.0], [np.nan]]), "NaN"), *telling):
        with pytest.raises(DataError, match=said):
            check_features(features, ("x",), mass[: len(features)])
    noise = np.random.default_rng(1).normal(size=(500, 1))
    check_features(np.hstack([noise, mass[:, None] + noise, np.round(noise)]), ("x", "y", "z"), mass)  # as they come
    with pytest.raises(DataError, match="negative"):
        check_weights([1.0, -1.0])
    with pytest.raises(UsageError, match="twice"):
        columns_of(["mass", "jet_mass"])
    with pytest.raises(DataError, match="too few for 5 folds"):
        assign_folds(np.repeat([0, 1], [20, 500]), 5, 0)
    with pytest.raises(DataError, match="one class"):
        assign_folds(np.ones(100), 5, 0)
