"""Two samples that differ by a known shift: weights and transport make the simulation say what is true in the data."""

import numpy as np
import pytest

from jettag.errors import DataError, UsageError
from jettag.weak.domains import SHIFTS, Domain, compare_domains, excess_sigma


def sample(n, shift, seed, *, signal=0.4):
    """Two features of unit width; signal lies 1.5 away in the first, and everything is moved by ``shift`` in it."""
    random = np.random.default_rng(seed)
    is_signal = random.random(n) < signal
    values = random.normal(size=(n, 2))
    values[:, 0] += 1.5 * is_signal + shift
    return Domain(values, is_signal)


def first(values):
    return np.asarray(values[:, 0], dtype=float)


def test_every_correction_says_what_is_true_where_the_simulation_does_not():
    rows, n_source, n_target = compare_domains(first, sample(6000, 0, 0), sample(6000, 0.5, 1), list(SHIFTS), folds=3)
    assert abs(n_source - 3000) < 150
    assert abs(n_target - 3000) < 150
    wrong, *corrected = rows
    assert wrong["distance"] == pytest.approx(0.5, abs=0.06)
    assert abs(wrong["background_efficiency_said"] - wrong["background_efficiency_true"]) > 0.06
    for row in corrected:
        assert row["distance"] < 0.25 * wrong["distance"], row["method"]
        off = abs(row["background_efficiency_said"] - row["background_efficiency_true"])
        assert off < abs(wrong["background_efficiency_said"] - wrong["background_efficiency_true"])
    sizes = {row["method"]: row["effective_sample_size"] / n_source for row in rows}
    assert sizes["none"] == sizes["ot-score"] == sizes["ot-embedding"] == pytest.approx(1)


def test_the_effective_sample_size_is_that_of_the_true_ratio():
    """Weights exp(d x - d^2 / 2) of two unit Gaussians have exp(-d^2) of the events; no class is known."""
    moved = [Domain(sample(8000, shift, seed, signal=0.0).inputs, None) for seed, shift in ((2, 0.0), (3, 0.5))]
    (row,), n_source, _ = compare_domains(first, *moved, ["reweight"], folds=3)
    assert row["effective_sample_size"] / n_source == pytest.approx(np.exp(-0.25), abs=0.08)
    assert row["signal_efficiency_said"] is None


def test_the_same_sample_needs_no_correction():
    rows, n_source, _ = compare_domains(first, sample(6000, 0, 4), sample(6000, 0, 5), ["none", "reweight"], folds=3)
    for row in rows:
        assert row["distance"] < 0.08
        assert row["effective_sample_size"] > 0.9 * n_source


def excesses(source, target, methods, seed=0):
    """At a cut that keeps 7 % of the background, of which each sample is said to be."""
    rows, *judging = compare_domains(first, source, target, methods, seed=seed, folds=3, cut=1.5)
    fitting = [len(one.inputs) - count for one, count in zip((source, target), judging, strict=True)]
    return [
        excess_sigma(
            row["background_efficiency_said"],
            row["background_efficiency_true"],
            [row["effective_sample_size"], judging[1], *(fitting if row["method"] != "none" else [])],
        )
        for row in rows
    ]


def test_background_alone_has_an_excess_of_unit_width_about_nothing():
    """Of two samples of one distribution; its mean and its width, each within three standard errors."""
    found = np.array(
        [
            excesses(
                sample(1600, 0, 2 * seed, signal=0), sample(2000, 0, 2 * seed + 1, signal=0), ["none", "ot-score"], seed
            )
            for seed in range(60)
        ]
    )
    assert np.all(np.abs(found.mean(0)) < 3 / np.sqrt(60))
    assert np.all(np.abs(found.std(0) - 1) < 3 / np.sqrt(120))


def test_a_signal_in_the_data_alone_is_an_excess_until_a_correction_is_fitted_on_it():
    source, mixed = sample(4000, 0, 8, signal=0), sample(4000, 0, 9, signal=0.1)
    target = Domain(mixed.inputs, np.zeros(4000, bool))
    none, *corrected = excesses(source, target, list(SHIFTS))
    assert none > 3  # 1.5 sigma above, half of it passes: 11 % of the mixture, 7 % of the background
    assert all(abs(excess) < 0.5 * none for excess in corrected)


def test_nothing_that_passes_is_no_excess():
    assert excess_sigma(0.0, 0.0, [100, 100]) == 0
    assert excess_sigma(0.4, 0.6, [50, 100, 100]) == pytest.approx(2)  # 0.2 over the root of 0.25 * 0.04


def test_bad_input_is_one_line():
    with pytest.raises(UsageError, match="ot-score"):
        compare_domains(first, sample(500, 0, 6), sample(500, 0, 7), ["otscore"])
    with pytest.raises(DataError, match="60 jets in the target are too few"):
        compare_domains(first, sample(500, 0, 6), sample(60, 0, 7), ["none"])
