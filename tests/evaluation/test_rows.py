import json
import re

import numpy as np
import pytest

from jettag.evaluation.rows import Row, aggregate, family, make_rows, remarks, to_json
from jettag.evaluation.scores import Scores

KEYS = [
    "run", "signal", "background", "n_signal", "n_background", "auc", "accuracy", "signal_efficiency",
    "background_rejection", "background_rejection_low", "background_rejection_high", "n_background_pass", "threshold",
    "seed", "parameters", "n_train",
]  # fmt: skip


def test_the_object_has_the_contracts_keys_and_survives_json(make_scores):
    # Plain Python out, whatever numpy types the facts come in.
    scores = make_scores()
    facts = Scores("r", scores.class_names, scores.probabilities, scores.label, np.int64(3), np.int32(10), np.int64(7))
    content = to_json(make_rows(facts))
    text = json.dumps(content, allow_nan=False)
    assert json.loads(text) == content
    for part in (*content["rows"], *content["aggregate"]):
        assert {type(value) for value in part.values()} <= {str, int, float, type(None)}
    assert list(content) == ["schema", "rows", "aggregate"]
    assert content["schema"] == 1
    assert [list(row) for row in content["rows"]] == [KEYS, KEYS]
    assert [row["signal_efficiency"] for row in content["rows"]] == [0.3, 0.5]
    assert [Row(**row) for row in json.loads(text)["rows"]] == make_rows(facts)
    assert (content["rows"][0]["seed"], content["rows"][0]["parameters"], content["rows"][0]["n_train"]) == (3, 10, 7)


def test_counts_of_a_row(make_scores):
    scores = make_scores()
    row = make_rows(scores)[0]
    assert row.n_signal == np.count_nonzero(scores.label == 1)
    assert row.n_background == np.count_nonzero(scores.label == 0)
    score = scores.probabilities[:, 1]
    assert row.n_background_pass == np.count_nonzero(score[scores.label == 0] >= row.threshold)
    # Of two classes the cut at 0.5 is the larger probability.
    assert row.accuracy == np.mean(scores.probabilities.argmax(1) == scores.label)


def test_nothing_passes_is_null_and_never_infinite(make_scores):
    scores = make_scores(separation=40.0, jets=200)
    content = to_json(make_rows(scores))
    for row in content["rows"]:
        assert row["background_rejection"] is None
        assert row["background_rejection_high"] is None
        assert row["background_rejection_low"] > 1
        assert row["n_background_pass"] == 0
    json.dumps(content, allow_nan=False)
    notes = [note for note in remarks([scores], make_rows(scores)) if "CL" in note]
    assert len(notes) == len(content["rows"])
    for note, row in zip(notes, content["rows"], strict=True):
        # One convention for a row and what is said of it: (1 - 1 / limit)^n = 16 %.
        assert (1 - 1 / row["background_rejection_low"]) ** row["n_background"] == pytest.approx(0.16)
        told = float(re.search(r"> ([\d.]+) at 84 % CL, the edge of the 68 % interval", note)[1])
        assert 0 <= row["background_rejection_low"] - told < 1


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("top-seed3", "top"), ("top_s12", "top"), ("top.seed-3", "top"), ("runs/top/seed3", "runs/top"),
        ("top_seed_4", "top"), ("Top-Seed=0", "Top"), ("top", "top"), ("seed3", "seed3"), ("tops3", "tops3"),
        ("top-s3-long", "top-s3-long"), ("glass_s", "glass_s"),
    ],
)  # fmt: skip
def test_family(run, expected):
    assert family(run) == expected


def test_aggregate_over_seeds(make_scores):
    runs = [make_scores(f"top-seed{i}", seed=i) for i in range(4)]
    rows = [row for scores in runs for row in make_rows(scores)]
    groups = aggregate(rows)
    assert [(g.run, g.signal_efficiency, g.n_seeds) for g in groups] == [("top", 0.3, 4), ("top", 0.5, 4)]
    values = np.array([row.background_rejection for row in rows if row.signal_efficiency == 0.5])
    assert groups[1].background_rejection_mean == pytest.approx(values.mean())
    assert groups[1].background_rejection_std == pytest.approx(values.std(ddof=1))
    assert groups[1].background_rejection_median == pytest.approx(np.median(values))
    assert groups[1].auc_std == pytest.approx(np.std([row.auc for row in rows[1::2]], ddof=1))
    # The order of the runs does not change their mean.
    assert aggregate(rows[::-1])[0].auc_median == groups[0].auc_median


def test_one_seed_has_no_standard_deviation(make_scores):
    (group,) = aggregate(make_rows(make_scores(), efficiencies=[0.5]))
    assert group.n_seeds == 1
    assert group.background_rejection_std is None
    assert group.auc_std is None
    assert group.background_rejection_mean == group.background_rejection_median is not None


def test_seeds_are_grouped_only_where_everything_else_agrees(make_scores):
    runs = [make_scores("top-seed1", n_train=100), make_scores("top-seed2", n_train=1000), make_scores("scratch")]
    rows = [row for scores in runs for row in make_rows(scores, efficiencies=[0.5])]
    assert [group.n_seeds for group in aggregate(rows)] == [1, 1, 1]
    same = [make_scores("a"), make_scores("b")]
    rows = [row for scores in same for row in make_rows(scores, efficiencies=[0.5])]
    assert [(g.run, g.n_seeds) for g in aggregate(rows, {"a": "both", "b": "both"})] == [("both", 2)]


@pytest.mark.parametrize(("limits", "median"), [(0, 3.0), (1, 3.0), (2, 3.0), (3, None), (5, None)])
def test_seeds_with_a_limit_have_no_mean_but_count_as_large_in_the_median(make_scores, limits, median):
    base = make_rows(make_scores(), efficiencies=[0.5])[0]
    values = [1.0, 2.0, 3.0, 4.0, 5.0][: 5 - limits] + [None] * limits
    rows = [Row(**{**vars(base), "run": f"top-s{i}", "background_rejection": value}) for i, value in enumerate(values)]
    (group,) = aggregate(rows)
    assert group.n_limits == limits
    assert (group.background_rejection_mean is None) == (limits > 0)
    assert (group.background_rejection_std is None) == (limits > 0)
    assert group.background_rejection_median == median


def test_ties_few_jets_and_absent_classes_are_remarked(make_scores):
    flat = Scores("flat", ("QCD", "Tbqq"), np.full((10, 2), 0.5), np.arange(10) % 2)
    row = make_rows(flat)[0]
    assert (row.background_rejection, row.auc, row.n_background_pass) == (1.0, 0.5, 5)
    notes = " ".join(remarks([flat], [row]))
    assert "tied; 100 % of the signal passes" in notes
    assert "only 5 of 5 background jets pass" in notes
    several = make_scores("m", class_names=("QCD", "Tbqq", "Wqq"))
    kept = several.label < 2
    two = Scores("m", several.class_names, several.probabilities[kept], several.label[kept])
    notes = " ".join(remarks([two], make_rows(two)))
    assert "no jet of Wqq" in notes


def test_many_rows_with_few_jets_are_one_remark(make_scores):
    runs = [make_scores(f"r{i}", jets=100, seed=i) for i in range(8)]
    rows = [row for scores in runs for row in make_rows(scores)]
    few = sum(0 < row.n_background_pass < 10 for row in rows)
    notes = [note for note in remarks(runs, rows) if "fewer than 10" in note]
    assert notes == [f"In {few} of {len(rows)} rows fewer than 10 background jets pass: wide intervals."]


def test_a_good_sample_needs_no_remark(make_scores):
    scores = make_scores(jets=5000)
    assert remarks([scores], make_rows(scores)) == []
