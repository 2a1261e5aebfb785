import numpy as np
import pytest

from jettag.errors import DataError, UsageError
from jettag.evaluation.rows import make_rows
from jettag.evaluation.scores import Pair, Scores, choose_pairs, name_runs

TEN = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")


def test_discriminant_from_the_formula(make_scores):
    scores = make_scores(class_names=TEN)
    table = {name: scores.probabilities[:, i] for i, name in enumerate(TEN)}
    expected = table["Tbqq"] / (table["Tbqq"] + table["QCD"] + table["Wqq"])
    np.testing.assert_allclose(scores.discriminant(Pair("Tbqq", ("QCD", "Wqq"))), expected, rtol=1e-14)


def test_no_probability_on_either_side_is_no_preference():
    scores = Scores("r", ("QCD", "Tbqq", "Wqq"), np.array([[0, 0, 1.0]]), np.array([2]))
    assert scores.discriminant(Pair("Tbqq", ("QCD",))) == [0.5]


def test_one_score_is_that_of_every_pair():
    scores = Scores("r", ("QCD", "Tbqq", "Wqq"), np.array([[0.1], [0.9], [0.4]]), np.array([0, 1, 2]))
    for pair in (Pair("Tbqq", ("QCD",)), Pair("Tbqq", ("QCD", "Wqq")), Pair("Wqq", ("QCD",))):
        np.testing.assert_array_equal(scores.discriminant(pair), [0.1, 0.9, 0.4])


def test_the_order_of_class_columns_never_matters(make_scores):
    scores = make_scores(class_names=TEN)
    rows = {(r.signal, r.background, r.signal_efficiency): r for r in make_rows(scores, background=["QCD", "QCD+Wqq"])}
    order = np.random.default_rng(1).permutation(10)
    names = tuple(TEN[i] for i in order)
    mixed = Scores(scores.run, names, scores.probabilities[:, order], np.argsort(order)[scores.label])
    again = make_rows(mixed, background=["QCD", "QCD+Wqq"])
    assert len(again) == len(rows)
    assert all(rows[r.signal, r.background, r.signal_efficiency] == r for r in again)


def test_default_pairs(make_scores):
    assert choose_pairs(make_scores()) == [Pair("Tbqq", ("QCD",))]
    ten = choose_pairs(make_scores(class_names=TEN))
    assert [pair.signal for pair in ten] == list(TEN[1:])
    assert {pair.background for pair in ten} == {("QCD",)}
    assert choose_pairs(make_scores(class_names=("light", "b")), signal=["b"]) == [Pair("b", ("light",))]


def test_classes_without_jets_are_no_default_signal(make_scores):
    scores = make_scores(class_names=TEN)
    kept = np.isin(scores.label, [0, 8])
    some = Scores("r", TEN, scores.probabilities[kept], scores.label[kept])
    assert choose_pairs(some) == [Pair("Tbqq", ("QCD",))]


def test_background_sets(make_scores):
    scores = make_scores(class_names=TEN)
    assert choose_pairs(scores, ["Tbqq"], ["QCD+Wqq", "Zqq", "Wqq + QCD"]) == [
        Pair("Tbqq", ("QCD", "Wqq")),
        Pair("Tbqq", ("Zqq",)),
    ]
    plus = make_scores(class_names=("QCD", "W+"))
    assert choose_pairs(plus, ["QCD"], ["W+"]) == [Pair("QCD", ("W+",))]


@pytest.mark.parametrize(
    ("signal", "background", "message"),
    [
        (["tbqq"], None, "did you mean Tbqq"),
        (["Tbqq"], ["QCD+Tbqq"], "both signal and background"),
        (["Tbqq"], ["QDC"], "did you mean QCD"),
    ],
)
def test_wrong_class_names_are_usage_errors(make_scores, signal, background, message):
    with pytest.raises(UsageError, match=message) as caught:
        choose_pairs(make_scores(), signal, background)
    assert caught.value.exit_code == 2


def test_without_qcd_the_background_must_be_named(make_scores):
    with pytest.raises(UsageError, match="--background"):
        choose_pairs(make_scores(class_names=("W", "Z", "top")))


def test_each_heavy_flavour_stands_against_every_other_class(make_scores):
    assert choose_pairs(make_scores(class_names=("b", "c", "light"))) == [
        Pair("b", ("c",)),
        Pair("b", ("light",)),
        Pair("c", ("b",)),
        Pair("c", ("light",)),
    ]


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_absent_is_exit_code_4_with_the_counts(make_scores, only):
    scores = make_scores()
    kept = scores.label == only
    one = Scores("r", scores.class_names, scores.probabilities[kept], scores.label[kept])
    for signal in (None, ["Tbqq"]):
        with pytest.raises(DataError, match=r"no jet of .*class.*(QCD|Tbqq)") as caught:
            make_rows(one, signal=signal)
        assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("probabilities", "label", "message"),
    [
        ([[0.5, np.nan], [0.5, 0.5]], [0, 1], "first nan in .*jet 0, class Tbqq"),
        ([[0.5, 0.5], [3.0, -2.0]], [0, 1], "found 2 others, first 3"),
        ([[0.5, 0.5]], [2], "labels from 0 to 1"),
        ([[0.5, 0.5]], [-1], "labels from 0 to 1"),
        ([[0.5, 0.5]], [0, 1], "expected .2, 2. probabilities"),
        ([[0.2, 0.3, 0.5]], [0], "found .1, 3."),
        (np.zeros((0, 2)), np.zeros(0, int), "no jet to evaluate"),
    ],
)
def test_wrong_scores_are_data_errors(probabilities, label, message):
    with pytest.raises(DataError, match=message):
        Scores("r", ("QCD", "Tbqq"), np.array(probabilities), np.array(label))


def test_runs_are_named_by_the_shortest_path_that_tells_them_apart(tmp_path):
    assert name_runs([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    assert name_runs([tmp_path / "x" / "top", tmp_path / "y" / "top"]) == ["x/top", "y/top"]
    with pytest.raises(UsageError, match="twice"):
        name_runs([tmp_path / "a", tmp_path / "b" / ".." / "a"])
