"""Flavour tagging judged: every number by a second way."""

import json
import math

import numpy as np
import pytest

from jettag.config.schemes import scheme
from jettag.errors import UsageError
from jettag.evaluation.bootstrap import bootstrap_rejection
from jettag.evaluation.discriminants import discriminant, equal_fractions, scan_fractions, simplex_grid
from jettag.evaluation.flavour import (
    Discriminant,
    FlavourScores,
    TrackScores,
    by_pt,
    judge,
    mean_signed_significance,
    parse_discriminant,
    stored_discriminants,
)
from jettag.evaluation.origins import origin_report
from jettag.evaluation.scores import Scores
from jettag.runs.flavour_judging import add_up_scores

NAMES = ("b", "c", "light")


def toy(jets=3000, seed=0):
    """Labels and probabilities of a tagger that is right more often than not."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, jets)
    return rng.dirichlet(np.ones(3), jets) * 0.6 + 0.4 * np.eye(3)[label] * rng.random((jets, 1)) + 1e-3, label


def normalised(probabilities):
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def test_a_discriminant_is_the_formula_of_the_paper():
    p, _ = toy(50)
    p = normalised(p)
    f_c = 0.2
    expected = [math.log(b / (f_c * c + (1 - f_c) * u)) for b, c, u in p]
    np.testing.assert_allclose(discriminant(p, NAMES, ("b",), {"c": 0.2, "light": 0.8}), expected, rtol=1e-6)
    # Columns in another order, and fractions too: names decide.
    turned = discriminant(p[:, [2, 0, 1]], ("light", "b", "c"), ("b",), {"light": 0.8, "c": 0.2})
    np.testing.assert_allclose(turned, expected, rtol=1e-6)
    assert np.isfinite(discriminant(np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]), NAMES, ("b",), {"c": 1.0})).all()


def test_groups_make_a_discriminant_of_any_partition():
    names = ("b", "bb", "lepb", "c", "uds", "g")
    p = np.random.default_rng(1).dirichlet(np.ones(6), 40)
    chosen = parse_discriminant("b+bb+lepb:c=0.1,uds+g=0.9")
    found = discriminant(p, names, chosen.signal, chosen.fractions, chosen.groups)
    expected = np.log(p[:, :3].sum(1) / (0.1 * p[:, 3] + 0.9 * (p[:, 4] + p[:, 5])))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "fractions", [{"c": 0.5, "light": 0.4}, {"c": -0.1, "light": 1.1}, {}, {"c": 0.5, "b": 0.5}, {"tau": 1.0}]
)
def test_fractions_off_the_simplex_and_classes_that_are_not_there_are_refused(fractions):
    with pytest.raises(UsageError):
        discriminant(np.ones((2, 3)) / 3, NAMES, ("b",), fractions)


@pytest.mark.parametrize("text", ["b", "b:", "b:c", "b:c=x", ":c=1", "b:=1"])
def test_a_discriminant_that_cannot_be_read_is_said(text):
    with pytest.raises(UsageError, match="write it as"):
        parse_discriminant(text)


@pytest.mark.parametrize("backgrounds", [1, 2, 3, 4, 6])
def test_grids_lie_on_the_simplex(backgrounds):
    grid = simplex_grid(backgrounds)
    np.testing.assert_allclose(grid.sum(axis=1), 1)
    assert grid.min() >= 0
    assert 1 <= len(grid) <= 20_000
    assert grid.shape[1] == backgrounds


def test_the_scan_counts_what_passes_and_its_optimum_is_nearest_to_the_corner():
    p, label = toy()
    p = normalised(p)
    scan = scan_fractions(p, label, NAMES, ("b",), 0.7)
    assert scan.backgrounds == ("c", "light")
    for row in (0, 40, 98):
        f_c = scan.fractions[row, 0]
        score = np.log(p[:, 0] / (f_c * p[:, 1] + (1 - f_c) * p[:, 2]))
        signal = np.sort(score[label == 0])[::-1]
        cut = signal[math.ceil(0.7 * len(signal)) - 1]  # at least 70 % of the signal is at or above it
        expected = [np.mean(score[label == k] >= cut) for k in (1, 2)]
        np.testing.assert_allclose(scan.efficiencies[row], expected, atol=2 / 900)
    scaled = scan.efficiencies / scan.efficiencies.max(axis=0)
    distance = [sum(x * x for x in row) for row in scaled]
    assert distance[scan.best] == min(distance)
    assert sum(scan.chosen.values()) == pytest.approx(1)
    # More weight on charm lets less charm pass.
    assert scan.efficiencies[-1, 0] < scan.efficiencies[0, 0]


def test_bootstrap_of_independent_jets_is_as_wide_as_counting_and_pairs_of_equal_jets_widen_it():
    rng = np.random.default_rng(3)
    signal, background = rng.normal(1, 1, 20_000), rng.normal(0, 1, 4000)
    threshold = np.quantile(signal, 0.3)
    passed = (background >= threshold).sum()
    spread = 1 / math.sqrt(passed) * math.sqrt(1 - passed / 4000)  # binomial, relative
    events = np.arange(24_000)
    low, high = bootstrap_rejection(signal, background, events[:20_000], events[20_000:], 0.7, replicas=300)
    assert low < 4000 / passed < high
    assert (high - low) / (2 * 4000 / passed) == pytest.approx(spread, rel=0.2)
    # The same jet four times in one event: the width of a quarter of the jets.
    few = np.repeat(background[:1000], 4)
    owner = 50_000 + np.repeat(np.arange(1000), 4)
    low, high = bootstrap_rejection(signal, few, events[:20_000], owner, 0.7, replicas=300)
    share = (few >= threshold).mean()
    expected = math.sqrt((1 - share) / (share * 1000))
    assert (high - low) * share / 2 == pytest.approx(expected, rel=0.2)


def test_bootstrap_says_when_nothing_passes():
    events = np.arange(20)
    low, high = bootstrap_rejection(np.ones(10), np.zeros(10), events[:10], events[10:], 0.7, replicas=20)
    assert high is None
    assert low == 10


def test_rejection_against_pt_with_one_cut_and_with_flat_efficiency():
    rng = np.random.default_rng(5)
    pt = rng.uniform(20, 250, 6000)
    is_signal = rng.random(6000) < 0.5
    score = rng.normal(0, 1, 6000) + is_signal * (0.5 + pt / 100)
    rows = by_pt(score, is_signal, {"light": ~is_signal}, pt)
    assert [row["pt_low"] for row in rows] == [20, 30, 40, 60, 85, 110, 140, 175]
    cut = np.quantile(score[is_signal], 0.3)
    for row in rows:
        inside = (pt >= row["pt_low"]) & (pt < row["pt_high"])
        assert row["n_signal"] == (inside & is_signal).sum()
        fixed, flat = row["fixed_cut"], row["flat_efficiency"]
        assert fixed["signal_efficiency"] == pytest.approx((score[inside & is_signal] >= cut).mean(), abs=0.01)
        assert flat["signal_efficiency"] == pytest.approx(0.7, abs=0.02)
        own = np.quantile(score[inside & is_signal], 0.3)
        expected = 1 / (score[inside & ~is_signal] >= own).mean()
        assert flat["rejections"]["light"]["background_rejection"] == pytest.approx(expected, rel=0.05)
    efficiencies = [row["fixed_cut"]["signal_efficiency"] for row in rows]
    assert efficiencies == sorted(efficiencies)


def test_the_confusion_matrix_of_a_hand_counted_sample():
    true = np.array([0, 2, 2, 2, 3, 3, 4, -1])
    said = np.array([2, 2, 2, 3, 3, 4, 4, 0])
    report = origin_report(true, said)
    assert report["confusion"][2] == [0, 0, 2, 1, 0, 0, 0, 0]
    assert report["tracks"] == 7
    assert report["recall"]["Primary"] == pytest.approx(2 / 3)
    assert report["precision"]["Primary"] == pytest.approx(2 / 3)
    assert report["recall"]["Pileup"] == 0
    assert report["precision"]["Pileup"] is None
    assert report["recall"]["Fake"] is None
    assert report["accuracy"] == pytest.approx(4 / 7)
    assert report["balanced_accuracy"] == pytest.approx((0 + 2 / 3 + 1 / 2 + 1) / 4)


def test_the_baseline_signs_tracks_by_where_they_come_from():
    """A track from a point on the jet's axis ahead of the beam is positive, from behind negative, by construction."""
    jet_phi = 0.3
    for ahead in (1, -1):
        for angle in (-0.2, 0.1):
            phi = jet_phi + angle
            x, y = 2 * ahead * math.cos(jet_phi), 2 * ahead * math.sin(jet_phi)
            d0 = -x * math.sin(phi) + y * math.cos(phi)
            found = mean_signed_significance(
                np.array([0, 2]),
                np.array([d0, 9.9]),
                np.array([0.1, 0.1]),
                np.array([angle, 0.3]),
                np.array([True, False]),
            )
            assert found[0] == pytest.approx(ahead * min(abs(d0) / 0.1, 10))
    empty = mean_signed_significance(np.array([0, 0, 1]), np.zeros(1), np.zeros(1), np.zeros(1), np.ones(1, bool))
    assert empty.tolist() == [0, 0]


def test_a_report_has_every_part_and_plain_values():
    p, label = toy(600)
    scores = Scores("run", NAMES, normalised(p), label)
    rng = np.random.default_rng(0)
    offsets = np.arange(601) * 5
    origin = rng.integers(0, 8, 3000)
    vertex = rng.integers(0, 3, 3000)
    tracks = TrackScores(offsets, origin, origin, vertex, vertex)
    stored = {"discriminants": {"b": {"fractions": {"c": 0.2, "light": 0.8}, "cuts": {"0.7": 0.5}}}}
    found = stored_discriminants(NAMES, stored)
    report = judge(FlavourScores(scores, found, rng.uniform(20, 250, 600), np.arange(600), tracks, p[:, 0]))
    point = report["discriminants"]["b"]["working_points"][2]
    score = discriminant(scores.probabilities, NAMES, ("b",), {"c": 0.2, "light": 0.8})
    assert point["efficiency_at_stored_cut"] == pytest.approx((score[label == 0] >= 0.5).mean())
    base, passing = p[:, 0], report["discriminants"]["b"]["baseline_working_points"]
    cut = np.sort(base[label == 0])[::-1][math.ceil(0.7 * (label == 0).sum()) - 1]
    assert [one["signal_efficiency"] for one in passing] == [0.7]
    assert passing[0]["rejections"]["light"]["background_rejection"] == pytest.approx(
        1 / (base[label == 2] >= cut).mean(), rel=0.05
    )
    assert [one["signal_efficiency"] for one in report["discriminants"]["b"]["working_points"]] == [
        0.6, 0.65, 0.7, 0.77, 0.85, 0.9,
    ]  # fmt: skip
    assert report["origins"]["accuracy"] == 1
    assert report["vertices"]["exclusive"]["b"]["efficiency"] in (None, 1)
    for kind in ("exclusive", "inclusive"):
        for name in NAMES:  # every jet is in one bin of pT, and has one number of vertices
            bins, whole = report["vertices_by_pt"][kind][name], report["vertices"][kind][name]
            for key in ("jets", "true", "found", "matched"):
                assert sum(row[key] for row in bins) == whole[key]
    for name in NAMES:
        rows, whole = report["vertices_by_number"][name], report["vertices"]["exclusive"][name]
        assert sum(row["jets"] for row in rows) == whole["jets"]
        assert sum(row["matched"] for row in rows) == whole["matched"]
    json.dumps(report, allow_nan=False)
    other = stored_discriminants(NAMES, {})
    assert [one.name for one in other] == ["b", "c"]
    assert other[0].fractions == equal_fractions(NAMES, ("b",)) == {"c": 0.5, "light": 0.5}
    assert isinstance(other[0], Discriminant)


def test_scores_of_a_fine_scheme_are_judged_as_those_of_a_coarse_one():
    names = scheme("deepjet").classes
    rng = np.random.default_rng(2)
    fine = Scores("run", names, rng.dirichlet(np.ones(6), 300), rng.integers(0, 6, 300))
    coarse = add_up_scores(fine, "b_c_light")
    assert coarse.class_names == NAMES
    for jet in range(300):
        own = names[fine.label[jet]]
        expected = "b" if own in ("b", "bb", "lepb") else "c" if own == "c" else "light"
        assert coarse.class_names[coarse.label[jet]] == expected
    np.testing.assert_allclose(coarse.probabilities[:, 0], fine.probabilities[:, :3].sum(axis=1))
    # The discriminant of groups on the fine scheme is that of single classes on the coarse one.
    chosen = parse_discriminant("b+bb+lepb:c=0.1,uds+g=0.9")
    by_groups = discriminant(fine.probabilities, names, chosen.signal, chosen.fractions, chosen.groups)
    by_sums = discriminant(coarse.probabilities, NAMES, ("b",), {"c": 0.1, "light": 0.9})
    np.testing.assert_allclose(by_groups, by_sums)
    with pytest.raises(UsageError, match="do not add up"):
        add_up_scores(coarse, "resonance")
