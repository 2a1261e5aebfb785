"""Regressions judged: medians, widths and correlations by hand, their intervals against closed forms."""

import json
import math

import numpy as np
import pytest

from jettag.evaluation.bootstrap import bootstrap_numbers
from jettag.evaluation.flavour import FlavourScores, judge
from jettag.evaluation.flavour_report import to_markdown
from jettag.evaluation.regression import RegressionScores, judge_regression
from jettag.evaluation.regression_report import compared_with

NAN = math.nan
# Predicted and true of six jets; the last has no truth.
PREDICTED, TRUE = np.array([1.0, 3.0, 4.0, 8.0, 10.0, 7.0]), np.array([2.0, 4.0, 4.0, 4.0, 2.0, NAN])
EACH = np.arange(6)


def test_ratio_and_difference_by_hand():
    """Ratios 1/2, 3/4, 1, 2, 5; differences -1, -1, 0, 4, 8: quantiles of five lie at places 0.64 and 3.36."""
    ratio = judge_regression(RegressionScores("x", PREDICTED, TRUE, "pt"), EACH)
    assert ratio["jets"] == 5
    assert ratio["compared"] == "ratio"
    assert ratio["median"] == 1
    low, high = 0.5 + 0.64 * 0.25, 2 + 0.36 * 3
    assert ratio["half_width"] == pytest.approx((high - low) / 2)
    difference = judge_regression(RegressionScores("x", PREDICTED, TRUE), EACH)
    assert difference["compared"] == "difference"
    assert difference["median"] == 0
    assert difference["half_width"] == pytest.approx((4 + 0.36 * 4 - -1) / 2)
    # Deviations from the means 5.2 and 3.2.
    x, y = PREDICTED[:5] - 5.2, TRUE[:5] - 3.2
    expected = sum(x * y) / math.sqrt(sum(x * x) * sum(y * y))
    assert difference["correlation"] == pytest.approx(expected)
    assert ratio["correlation"] == pytest.approx(expected)


def test_a_logarithm_is_judged_by_ratios_and_its_correlation_is_of_logarithms():
    """Exact powers: the prediction is the square of the truth, a straight line in logarithms alone."""
    true = np.array([1.0, 2.0, 4.0, 8.0])
    found = judge_regression(RegressionScores("flight", true**2, true, logarithm=True), np.arange(4))
    assert found["correlation"] == pytest.approx(1)
    assert found["median"] == 3  # of 1, 2, 4, 8
    plain = judge_regression(RegressionScores("flight", true**2, true), np.arange(4))
    assert plain["correlation"] < 0.99
    assert compared_with(found) == "predicted / true, learnt logarithm"


def test_bins_of_pt_hold_their_own_jets_and_empty_ones_are_left_out():
    pt = np.array([25.0, 25.0, 35.0, 35.0, 35.0, 35.0])
    found = judge_regression(RegressionScores("x", PREDICTED, TRUE), EACH, pt, (20, 30, 40, 60))
    assert [(row["pt_low"], row["pt_high"], row["jets"]) for row in found["by_pt"]] == [(20, 30, 2), (30, 40, 3)]
    assert [row["median"] for row in found["by_pt"]] == [-1, 4]
    assert found["by_pt"][0]["correlation"] is None  # two points lie on a line


def test_no_jet_with_a_truth_and_a_constant_prediction():
    empty = judge_regression(RegressionScores("x", PREDICTED, np.full(6, NAN)), EACH, np.full(6, 50.0), (20, 60))
    assert (empty["jets"], empty["median"], empty["median_low"], empty["by_pt"]) == (0, None, None, [])
    constant = judge_regression(RegressionScores("x", np.ones(6), TRUE), EACH)
    assert constant["correlation"] is None
    assert constant["median"] == -3  # of -1, -3, -3, -3, -1


def test_intervals_have_the_width_of_the_sampling_distribution_and_count_events():
    """Of N normal numbers the median has the error 1.2533 / sqrt(N), a correlation r that of (1 - r^2) / sqrt(N)."""
    rng = np.random.default_rng(5)
    true = rng.normal(size=4000)
    predicted = 0.6 * true + 0.8 * rng.normal(size=4000)
    found = judge_regression(RegressionScores("x", predicted, true), np.arange(4000))
    spread = math.sqrt(0.4**2 + 0.8**2)

    def half(name, of):
        return (of[f"{name}_high"] - of[f"{name}_low"]) / 2

    assert half("median", found) == pytest.approx(1.2533 * spread / math.sqrt(4000), rel=0.3)
    assert half("correlation", found) == pytest.approx((1 - 0.6**2) / math.sqrt(4000), rel=0.3)
    assert found["half_width"] == pytest.approx(0.9945 * spread, rel=0.05)
    assert found["correlation_low"] < 0.6 < found["correlation_high"]
    # Every jet four times in its event: the numbers are the same, and no interval shrinks.
    rows = np.repeat(np.arange(4000), 4)
    fourfold = judge_regression(RegressionScores("x", predicted[rows], true[rows]), rows)
    alone = judge_regression(RegressionScores("x", predicted[rows], true[rows]), np.arange(16_000))
    assert fourfold["median"] == pytest.approx(found["median"], abs=1e-3)
    assert half("correlation", fourfold) == pytest.approx(half("correlation", found), rel=0.2)
    assert half("correlation", alone) == pytest.approx(half("correlation", found) / 2, rel=0.3)


def test_edges_that_too_many_samples_lack_are_none():
    def two_kinds(rows):
        return 2.0 if len(set(rows.tolist())) > 1 else NAN

    ((_, *of_two),) = bootstrap_numbers({"x": two_kinds}, np.arange(2))
    assert of_two == [2.0, None, None]  # every second sample has one kind only
    ((_, *of_many),) = bootstrap_numbers({"x": two_kinds}, np.arange(40))
    assert of_many == [2.0, 2.0, 2.0]


def test_the_report_has_the_heads_as_json_and_markdown(make_scores):
    scores = make_scores(class_names=("b", "c", "light"), jets=300)
    rng = np.random.default_rng(0)
    true, pt = rng.uniform(0.8, 1.2, 300), rng.uniform(20, 40, 300)
    run = FlavourScores(scores, (), pt=pt, regressions=(RegressionScores("truth_pt", true * 1.02, true, "pt"),))
    report = json.loads(json.dumps(judge(run)))
    found = report["regression"]["truth_pt"]
    assert found["median"] == pytest.approx(1.02)
    assert found["half_width"] == pytest.approx(0, abs=1e-9)
    assert [row["jets"] for row in found["by_pt"]] == [np.sum(pt < 30), np.sum(pt >= 30)]
    text = to_markdown([report])
    assert "### truth_pt: predicted / true, learnt divided by pt" in text
    assert f"| 20-30 | {np.sum(pt < 30)} | 1.02 [1.02, 1.02] |" in text
