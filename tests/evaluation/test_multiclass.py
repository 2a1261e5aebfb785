"""Many classes as a whole: scikit-learn's numbers by another route, and classes without jets."""

import json

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

from jettag.evaluation import report
from jettag.evaluation.multiclass import judge_classes
from jettag.evaluation.rows import make_rows
from jettag.evaluation.scores import Scores

NAMES = ("QCD", "Hbb", "Tbqq", "Wqq")


def make_scores(absent: int | None = None, run: str = "many") -> Scores:
    rng = np.random.default_rng(4)
    label = rng.integers(0, len(NAMES), 600)
    if absent is not None:
        label[label == absent] = 0
    logits = rng.normal(size=(600, len(NAMES))) + 1.2 * np.eye(len(NAMES))[label]
    table = np.exp(logits)
    return Scores(run, NAMES, table / table.sum(1, keepdims=True), label)


def test_numbers_are_those_of_scikit_learn():
    scores = make_scores()
    found = judge_classes(scores)
    predicted = scores.probabilities.argmax(1)
    assert found["accuracy"] == pytest.approx((predicted == scores.label).mean())
    assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]
    # One standard error to each side, at 600 jets nearly symmetric.
    error = np.sqrt(found["accuracy"] * (1 - found["accuracy"]) / 600)
    assert (found["accuracy_high"] - found["accuracy_low"]) / 2 == pytest.approx(error, rel=0.05)
    expected = roc_auc_score(scores.label, scores.probabilities, multi_class="ovo", average="macro")
    assert found["auc_ovo"] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_array_equal(found["confusion"], confusion_matrix(scores.label, predicted))
    for k, name in enumerate(NAMES):
        assert found["recall"][name] == pytest.approx((predicted[scores.label == k] == k).mean())


def test_a_class_without_jets_has_no_recall_and_is_in_no_pair():
    whole, lacking = make_scores(), make_scores(absent=3)
    found = judge_classes(lacking)
    assert found["recall"]["Wqq"] is None
    assert found["confusion"][3] == [0, 0, 0, 0]
    three = lacking.label != 3
    left = Scores("three", NAMES[:3], lacking.probabilities[three][:, :3], lacking.label[three])
    assert found["auc_ovo"] == pytest.approx(judge_classes(left)["auc_ovo"])
    alone = Scores("one", NAMES, whole.probabilities[:5], np.zeros(5, dtype=np.int64))
    assert judge_classes(alone)["auc_ovo"] is None


def test_the_report_has_them_and_two_classes_do_not(tmp_path):
    scores = make_scores()
    rows = make_rows(scores)
    report.write(tmp_path / "many", rows, [scores])
    whole = json.loads((tmp_path / "many" / "eval.json").read_text())
    assert whole["multiclass"] == [judge_classes(scores)]
    assert "### All classes" in (tmp_path / "many" / "table.md").read_text()
    assert (tmp_path / "many" / "classes.png").stat().st_size > 1000
    two = Scores("two", NAMES[:2], np.full((4, 2), 0.5), np.array([0, 1, 0, 1]))
    report.write(tmp_path / "two", make_rows(two), [two])
    assert "multiclass" not in json.loads((tmp_path / "two" / "eval.json").read_text())
    assert not (tmp_path / "two" / "classes.png").exists()
