"""CWoLa hunting on a toy: finds a resonance, finds none where there is none, and lets no event decide its own cut."""

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from jettag.errors import DataError, UsageError
from jettag.weak.classifiers import make_linear
from jettag.weak.hunt import HuntPlan, NestedScores, hunt, mass_edges, nested_scores, passing
from jettag.weak.windows import Window

WINDOW = Window(3300, 3700, 2900, 4200)


def toy(background, signal, seed):
    """A falling spectrum with features that ignore the mass, and a resonance with others."""
    random = np.random.default_rng(seed)
    mass = np.concatenate([2200 + random.exponential(700, background), random.normal(3500, 60, signal)])
    features = random.normal(size=(background + signal, 3))
    features[background:, :2] += 2.0
    kept = mass < 6000
    return features[kept], mass[kept], np.repeat([False, True], [background, signal])[kept]


class Remembers:
    """Scores an event by whether it was trained on."""

    def fit(self, features, label, *, sample_weight=None):
        self.known = set(features[:, 0].tolist())

    def predict_proba(self, features):
        seen = np.array([float(value in self.known) for value in features[:, 0]])
        return np.stack([1 - seen, seen], axis=1)


def test_no_event_is_scored_by_what_it_trained_nor_decides_its_threshold():
    features, mass, _ = toy(3000, 0, 0)
    score, fold, _ = nested_scores(lambda _: Remembers(), features, mass, WINDOW, folds=4)
    assert np.allclose(score, 0.5)  # nothing known: everything ties with everything
    random = np.random.default_rng(1)
    score = random.random(len(mass))
    reference = WINDOW.beside(mass)
    kept = passing(score, fold, reference, 0.1)
    assert kept[reference].mean() == pytest.approx(0.1, abs=0.03)
    changed = score.copy()
    changed[fold == 2] *= 10  # the fold's own scores do not move its own threshold
    again = passing(changed, fold, reference, 0.1)
    threshold = np.quantile(score[reference & (fold != 2)], 0.9)
    assert np.array_equal(again[fold == 2], changed[fold == 2] > threshold)


def test_events_that_judge_change_nothing_and_are_scored_as_those_of_the_hunt():
    features, mass, is_signal = toy(6000, 300, 4)
    others, their_mass, signal = toy(6000, 300, 5)
    alone = nested_scores(make_linear, features, mass, WINDOW, folds=3)
    found = nested_scores(make_linear, features, mass, WINDOW, folds=3, judges=others)
    assert np.array_equal(alone.score, found.score)
    assert len(alone.judged) == 0

    def auc(score, mass, truth):
        inside = WINDOW.inside(mass)
        return roc_auc_score(truth[inside], score[inside])

    assert auc(found.judged, their_mass, signal) == pytest.approx(auc(found.score, mass, is_signal), abs=0.06)
    assert auc(found.judged, their_mass, signal) > 0.7


def test_a_resonance_is_found():
    plan = HuntPlan(mass_edges(2200, 6000, 15), efficiencies=(0.02,), folds=3, windows=(WINDOW,), restarts=2)
    features, mass, _ = toy(12_000, 120, 2)
    (found,), bumps = hunt(make_linear, features, ["x", "y", "z"], mass, plan)
    assert found.excess.significance > 3.5
    assert found.achieved == pytest.approx(0.02, abs=0.006)
    assert bumps[0.02].low < 3560
    assert bumps[0.02].high > 3440


def learns_by_heart(seed):
    return DecisionTreeClassifier(min_samples_leaf=30, random_state=seed)


def in_sample(make, features, mass, window, *, folds, restarts, seed, judges):
    """What `nested_scores` must not do: every event is scored by a classifier that saw it."""
    inside, used = window.inside(mass), window.inside(mass) | window.beside(mass)
    member = make(seed).fit(features[used], inside[used], sample_weight=window.weights(mass)[used])
    fold = np.random.default_rng([seed, 4]).permutation(len(mass)) % folds
    return NestedScores(member.predict_proba(features)[:, 1], fold, np.zeros(0))


def chances(toys):
    """p-values of toys without signal, a column for each of two regions and cuts; the spectrum is a dijet function."""
    grid = np.linspace(2200, 6000, 1001)
    x = grid / 13_000
    share = np.cumsum((1 - x) ** 10 / x**5)
    share = (share - share[0]) / (share[-1] - share[0])
    windows = (Window(2600, 3000, 2300, 3600), Window(3400, 4000, 2700, 5000))
    plan = HuntPlan(mass_edges(2200, 6000, 15), efficiencies=(0.1, 0.03), folds=3, windows=windows)
    found = []
    for seed in range(toys):
        random = np.random.default_rng(10 + seed)
        mass, features = np.interp(random.random(10_000), share, grid), random.normal(size=(10_000, 3))
        results, _ = hunt(learns_by_heart, features, ["x", "y", "z"], mass, plan)
        found.append([none.excess.p_value for none in results])
    return np.array(found)


def test_p_values_are_uniform_without_signal_and_would_not_be_in_sample(monkeypatch):
    for values in chances(20).T:
        assert kstest(values, "uniform").pvalue > 0.01
    monkeypatch.setattr("jettag.weak.hunt.nested_scores", in_sample)
    for values in chances(4).T:
        assert kstest(values, "uniform").pvalue < 1e-4


def test_the_hunt_slides_and_the_best_window_holds_the_resonance():
    plan = HuntPlan(mass_edges(2200, 6000, 10), efficiencies=(0.02,), folds=3)
    features, mass, _ = toy(12_000, 80, 3)
    results, bumps = hunt(make_linear, features, ["x", "y", "z"], mass, plan)
    assert len(results) == 4
    best = max(results, key=lambda result: result.excess.significance)
    assert best.window.low < 3500 < best.window.high
    assert bumps[0.02].local_p_value <= bumps[0.02].global_p_value


def _never(seed):
    raise AssertionError(f"trained with seed {seed} before all regions were looked at")


def test_bad_input_is_one_line():
    features, mass, _ = toy(3000, 0, 4)
    plan = HuntPlan(mass_edges(2200, 6000, 10), folds=3, windows=(WINDOW,))
    with pytest.raises(DataError, match="feature mjj tells the mass"):
        hunt(make_linear, np.column_stack([features, mass]), ["x", "y", "z", "mjj"], mass, plan)
    with pytest.raises(DataError, match="no events in the signal region"):
        nested_scores(make_linear, features, mass, Window(9000, 9500, 8000, 9900), folds=3)
    for share in (0.0, 1.5):
        with pytest.raises(UsageError, match="between 0 and 1"):
            hunt(_never, features, ["x", "y", "z"], mass, HuntPlan((2200, 6000), efficiencies=(share,)))
    wide = HuntPlan(mass_edges(2200, 20_000, 10), folds=3)  # the last side-band is empty
    with pytest.raises(DataError, match="no events in the side-band"):
        hunt(_never, features, ["x", "y", "z"], mass, wide)
    with pytest.raises(DataError, match="2 folds cannot be nested"):
        nested_scores(make_linear, features, mass, WINDOW, folds=2)
    with pytest.raises(DataError, match="too few for 60 folds"):
        nested_scores(make_linear, features, mass, WINDOW, folds=60)
