"""Two samples that differ by a known shift: weights and transport make the simulation say what is true in the data."""

import numpy as np
import pytest

from jettag.errors import DataError, UsageError
from jettag.weak.domains import SHIFTS, Domain, compare_domains


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


def test_bad_input_is_one_line():
    with pytest.raises(UsageError, match="ot-score"):
        compare_domains(first, sample(500, 0, 6), sample(500, 0, 7), ["otscore"])
    with pytest.raises(DataError, match="60 jets in the target are too few"):
        compare_domains(first, sample(500, 0, 6), sample(60, 0, 7), ["none"])
