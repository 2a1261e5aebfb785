import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from sklearn.metrics import roc_auc_score, roc_curve

from jettag.errors import DataError, UsageError
from jettag.evaluation.metrics import (
    LIMIT_CONFIDENCE,
    accuracy,
    auc,
    background_rejection,
    binary_accuracy,
    clopper_pearson,
    rejection_curve,
    working_point,
)


def sample(seed, signal=700, background=1500, shift=1.5, decimals=None):
    generator = np.random.default_rng(seed)
    s, b = generator.normal(shift, 1, signal), generator.normal(0, 1, background)
    return (s, b) if decimals is None else (s.round(decimals), b.round(decimals))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.parametrize("efficiency", [0.1, 0.3, 0.5, 0.9, 0.995, 1.0])
def test_rejection_is_the_point_of_sklearns_roc_at_the_same_threshold(seed, decimals, efficiency):
    signal, background = sample(seed, decimals=decimals)
    label = np.r_[np.ones(len(signal)), np.zeros(len(background))]
    false_positive, true_positive, thresholds = roc_curve(label, np.r_[signal, background], drop_intermediate=False)
    found = background_rejection(signal, background, efficiency)
    at = np.flatnonzero(thresholds == found.threshold)[0]
    assert found.n_pass == round(false_positive[at] * len(background))
    if found.n_pass:
        assert found.value == pytest.approx(1 / false_positive[at], rel=1e-12)
    # At least the efficiency asked for passes; the next threshold up would let less than that plus one jet pass.
    assert true_positive[at] >= efficiency - 1e-12
    assert true_positive[at - 1] * len(signal) < efficiency * len(signal) + 1


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=40),
    st.lists(st.integers(-5, 5), min_size=1, max_size=40),
    st.floats(0.01, 1),
)
def test_threshold_and_counts_from_the_definition(signal, background, efficiency):
    # By sorting by hand: the quantile's lower neighbour stands at floor((1 - efficiency) (n - 1)).
    position = int(np.floor((1 - efficiency) * (len(signal) - 1)))
    found = background_rejection(signal, background, efficiency)
    assert found.threshold == sorted(signal)[position]
    assert found.n_pass == sum(score >= found.threshold for score in background)
    assert working_point(signal, efficiency).achieved >= efficiency - 1e-9
    assert found.low <= (found.value or np.inf) <= (found.high or np.inf)


@pytest.mark.parametrize("total", [1, 7, 100, 10_000])
def test_interval_agrees_with_binomtest(total):
    for passed in {0, 1, total // 3, total - 1, total}:
        interval = binomtest(passed, total).proportion_ci(0.68, "exact")
        low, high = clopper_pearson(passed, total)
        assert low == pytest.approx(interval.low, rel=1e-9, abs=1e-15)
        assert high == pytest.approx(interval.high, rel=1e-9)


def test_rejection_edges_are_the_interval_inverted():
    signal, background = sample(1)
    found = background_rejection(signal, background, 0.5)
    interval = binomtest(found.n_pass, len(background)).proportion_ci(0.68, "exact")
    assert (found.low, found.high) == pytest.approx((1 / interval.high, 1 / interval.low))


@settings(max_examples=30)
@given(st.integers(1, 200), st.floats(0.001, 0.5))
def test_interval_covers_at_least_as_often_as_it_says(total, efficiency):
    passed = np.arange(total + 1)
    low, high = clopper_pearson(passed, total)
    covered = binom.pmf(passed, total, efficiency)[(low <= efficiency) & (efficiency <= high)].sum()
    assert covered >= 0.68 - 1e-9


@pytest.mark.parametrize("total", [1, 10, 1000, 300_000])
def test_nothing_passes_gives_a_lower_limit(total):
    found = background_rejection([2.0, 3.0], np.zeros(total), 0.5)
    assert found.value is None
    assert found.high is None
    assert found.n_pass == 0
    # The efficiency at which an empty count still has probability 16 %: (1 - e)^n = 0.16.
    assert (1 - 1 / found.low) ** total == pytest.approx(1 - LIMIT_CONFIDENCE, rel=1e-6)


def test_everything_passes_and_constant_scores():
    found = background_rejection(np.full(10, 0.5), np.full(10, 0.5), 0.3)
    assert (found.value, found.low, found.n_pass, found.threshold) == (1.0, 1.0, 10, 0.5)
    # All ten pass with probability e^10 = 0.16 at the edge.
    assert (1 / found.high) ** 10 == pytest.approx(0.16)
    assert auc(np.full(10, 0.5), np.full(10, 0.5)) == 0.5
    assert working_point(np.full(10, 0.5), 0.3).achieved == 1.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_auc_agrees_with_sklearn(seed, decimals):
    signal, background = sample(seed, decimals=decimals)
    label = np.r_[np.ones(len(signal)), np.zeros(len(background))]
    assert auc(signal, background) == pytest.approx(roc_auc_score(label, np.r_[signal, background]), abs=1e-12)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_auc_is_the_share_of_pairs_and_swaps_to_one_minus_itself(signal, background):
    pairs = [(s > b) + 0.5 * (s == b) for s in signal for b in background]
    assert auc(signal, background) == pytest.approx(sum(pairs) / len(pairs), abs=1e-15)
    assert auc(signal, background) + auc(background, signal) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("change", [np.exp, np.arctan, lambda x: x**3, lambda x: 7 * x - 3])
def test_a_strictly_monotone_map_changes_nothing(change):
    signal, background = sample(3)
    assert auc(change(signal), change(background)) == auc(signal, background)
    before = background_rejection(signal, background, 0.3)
    after = background_rejection(change(signal), change(background), 0.3)
    assert (after.value, after.low, after.high) == (before.value, before.low, before.high)
    assert after.threshold == change(before.threshold)


def test_order_of_jets_does_not_matter():
    signal, background = sample(4)
    generator = np.random.default_rng(0)
    mixed = generator.permutation(signal), generator.permutation(background)
    assert auc(*mixed) == auc(signal, background)
    assert background_rejection(*mixed, 0.3) == background_rejection(signal, background, 0.3)


def test_a_doubled_sample_has_the_same_rejection_and_a_narrower_interval():
    signal, background = sample(5)
    once = background_rejection(signal, background, 0.5)
    twice = background_rejection(np.tile(signal, 2), np.tile(background, 2), 0.5)
    assert twice.value == pytest.approx(once.value, rel=0.02)  # the quantile's neighbour may move by one jet
    assert twice.high - twice.low < once.high - once.low
    # The background alone doubled leaves the threshold where it is: exactly the same rejection.
    again = background_rejection(signal, np.tile(background, 2), 0.5)
    assert again.value == once.value
    assert again.high - again.low < once.high - once.low


def test_curve_is_the_rejection_point_by_point():
    signal, background = sample(6, decimals=1)
    efficiencies = np.linspace(0.02, 1, 17)
    curve = rejection_curve(signal, background, efficiencies)
    for i, efficiency in enumerate(efficiencies):
        found = background_rejection(signal, background, efficiency)
        assert curve.n_pass[i] == found.n_pass
        assert curve.low[i] == pytest.approx(found.low)
        expected = (np.nan, np.nan) if found.value is None else (found.value, found.high)
        assert (curve.rejection[i], curve.high[i]) == pytest.approx(expected, nan_ok=True)


def test_binary_accuracy_counts_both_sides_and_the_cut_itself_passes():
    assert binary_accuracy([0.5, 0.9, 0.1], [0.5, 0.2]) == 3 / 5


def test_accuracy_is_argmax_without_ties_and_forgets_the_order_of_columns():
    generator = np.random.default_rng(7)
    table, label = generator.dirichlet(np.ones(5), 300), generator.integers(0, 5, 300)
    assert accuracy(table, label) == np.mean(table.argmax(1) == label)
    tied = table.round(1)
    order = generator.permutation(5)
    assert accuracy(tied[:, order], np.argsort(order)[label]) == pytest.approx(accuracy(tied, label), abs=1e-15)
    assert accuracy(np.full((6, 3), 1 / 3), np.zeros(6, dtype=int)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_data_errors(bad):
    for call in (auc, lambda s, b: background_rejection(s, b, 0.3), binary_accuracy):
        with pytest.raises(DataError, match=r"1 of 3 background .*entry 1 \(the first\)"):
            call([1.0, 2.0], [0.0, bad, 1.0])


def test_an_absent_class_is_a_data_error():
    for signal, background in (([], [1.0]), ([1.0], [])):
        with pytest.raises(DataError, match="found none"):
            auc(signal, background)
        with pytest.raises(DataError, match="found none"):
            background_rejection(signal, background, 0.3)


@pytest.mark.parametrize("efficiency", [0, -0.1, 1.01, 30, np.nan])
def test_an_efficiency_outside_zero_to_one_is_a_usage_error(efficiency):
    with pytest.raises(UsageError, match="signal efficiency"):
        background_rejection([1.0], [0.0], efficiency)
