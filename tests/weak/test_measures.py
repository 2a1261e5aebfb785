"""Significance improvement: expected numbers by formulas of Gaussians and by counting."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from jettag.errors import DataError, UsageError
from jettag.weak.measures import argos, band, best_improvement, max_sic, sic_at, sic_curve, total_improvement


def gaussians(n=200_000, shift=1.5, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(shift, 1, n), random.normal(0, 1, n)


def test_the_curve_of_two_gaussians_is_the_analytic_one():
    signal, background = gaussians()
    curve = sic_curve(signal, background)
    for efficiency in (0.3, 0.1, 0.01, 0.001):
        cut = norm.isf(efficiency)
        assert sic_at(curve, efficiency) == pytest.approx(norm.sf(cut - 1.5) / np.sqrt(efficiency), rel=0.06)


def test_a_random_score_has_the_root_of_the_background_efficiency_and_a_maximum_just_above_one():
    random = np.random.default_rng(1)
    found = [max_sic(sic_curve(random.random(5000), random.random(20_000))).value for _ in range(20)]
    assert min(found) >= 1.0
    assert np.median(found) < 1.3
    at = [[sic_at(sic_curve(random.random(5000), random.random(20_000)), e) for e in (1e-2, 1e-3)] for _ in range(40)]
    assert np.mean(at, axis=0) == pytest.approx([0.1, 1e-3**0.5], rel=0.12)


def test_hand_counted_toy_with_ties():
    curve = sic_curve([3, 3, 1, 0], [3, 2, 1, 1, 0, 0, 0, 0, 0, 0])
    assert curve.threshold.tolist() == [3, 2, 1, 0]
    assert curve.n_background_pass.tolist() == [1, 2, 4, 10]
    assert curve.sic == pytest.approx([0.5 / 0.1**0.5, 0.5 / 0.2**0.5, 0.75 / 0.4**0.5, 1.0])
    # Half of the single tied background event at 3 is half of the signal there.
    assert sic_at(sic_curve([3, 3, 1, 0], [3] * 2 + [0] * 18), 0.05) == pytest.approx(0.25 / 0.05**0.5)


def test_the_maximum_keeps_25_background_events():
    curve = sic_curve(np.full(10, 990.0), np.arange(1000))  # only 10 background events lie above the signal
    best = max_sic(curve)
    assert best.n_background_pass == 25
    assert best.value == pytest.approx(1 / np.sqrt(0.025))
    with pytest.raises(DataError, match="24 background events"):
        max_sic(sic_curve([1.0], np.arange(24)))


def test_a_monotone_map_of_the_scores_changes_nothing():
    signal, background = gaussians(2000)
    a, b = sic_curve(signal, background), sic_curve(np.exp(signal), np.exp(background))
    assert np.array_equal(a.sic, b.sic, equal_nan=True)


def test_auc_of_mixtures_follows_the_law():
    random = np.random.default_rng(2)
    signal, background = gaussians(40_000, seed=3)
    truth = roc_auc_score(np.repeat([1, 0], 40_000), np.concatenate([signal, background]))
    for f1, f2 in ((0.5, 0.1), (0.2, 0.0), (0.3, 0.3)):
        mixtures = []
        for f in (f1, f2):
            n = int(f * 30_000)
            mixtures.append(np.concatenate([random.choice(signal, n), random.choice(background, 30_000 - n)]))
        found = roc_auc_score(np.repeat([1, 0], 30_000), np.concatenate(mixtures))
        assert found == pytest.approx(0.5 + (f1 - f2) * (truth - 0.5), abs=0.01)


def test_argos_is_the_signal_fraction_times_the_gain_and_zero_where_nothing_is_learnt():
    signal, background = gaussians(100_000, seed=4)
    n = 3000
    data = np.concatenate([signal[:n], background[:97_000]])
    template = background[50_000:]
    cuts = norm.isf(np.geomspace(1e-3, 0.5, 400))
    expected = 0.03 * np.max(norm.sf(cuts - 1.5) / np.sqrt(norm.sf(cuts)) - np.sqrt(norm.sf(cuts)))
    assert argos(data, template) == pytest.approx(expected, rel=0.35)
    worse = np.random.default_rng(5).normal(data * 0.2, 1), np.random.default_rng(6).normal(template * 0.2, 1)
    assert argos(*worse) < argos(data, template)
    random = np.random.default_rng(7)
    assert argos(random.random(50_000), random.random(50_000)) < 0.02


def test_band_and_total_improvement():
    found = band(list(range(101)))
    assert (found.median, found.low, found.high, found.n) == (50, 16, 84, 101)
    signal, background = gaussians()
    good, bad = sic_curve(signal, background), sic_curve(background[::-1], background)
    summary = total_improvement({"good": good, "bad": bad})
    assert summary["max"] == max(sic_at(good, e) for e in (1e-2, 1e-3, 1e-4))
    assert summary["min"] == pytest.approx(0.1, rel=1e-3)
    assert best_improvement(good) == summary["max"]
    assert summary["median"] == pytest.approx((summary["min"] + summary["max"]) / 2)


def test_bad_input_is_one_line():
    with pytest.raises(DataError, match="NaN"):
        sic_curve([1.0, np.nan], [0.0])
    with pytest.raises(DataError, match="found none"):
        sic_curve([], [0.0])
    with pytest.raises(UsageError):
        sic_at(sic_curve([1.0], [0.0]), 0.0)
    assert sic_at(sic_curve([1.0], np.arange(50)), 1e-2) is None
    with pytest.raises(DataError, match="too few"):
        total_improvement({"s": sic_curve([1.0], np.arange(50))})


def test_weights_of_the_background_are_repeated_events():
    signal, background = gaussians(2000, seed=8)
    weight = np.random.default_rng(9).integers(0, 4, len(background))
    repeated = np.repeat(background, weight)
    weighted = sic_curve(signal, background, weight)
    kept = np.isin(weighted.threshold, np.concatenate([signal, repeated]))  # events of no weight add thresholds
    assert weighted.sic[kept] == pytest.approx(sic_curve(signal, repeated).sic, nan_ok=True)
    effective = weight.sum() ** 2 / (weight**2).sum()
    assert weighted.n_background_pass[-1] == weighted.n_background == int(effective)
    weight = np.maximum(weight, 1)
    found = argos(signal, background, template_weight=weight, min_template=1)
    assert found == pytest.approx(argos(signal, np.repeat(background, weight), min_template=1))
    assert argos(signal, background, template_weight=np.full(len(background), 0.3)) == pytest.approx(
        argos(signal, background)
    )
    with pytest.raises(DataError, match="negative"):
        sic_curve(signal, background, -weight)
