import json

import pytest

from jettag.errors import DataError, ResourceError
from jettag.evaluation import report
from jettag.evaluation.rows import make_rows, to_json
from jettag.evaluation.scores import Scores

NAMES = ["eval.json", "roc.pdf", "roc.png", "scores.pdf", "scores.png", "table.md", "table.tex"]


def test_report_leaves_exactly_the_named_files(make_scores, tmp_path):
    runs = [make_scores("a"), make_scores("b", seed=1)]
    rows = [row for scores in runs for row in make_rows(scores)]
    paths = report.write(tmp_path / "deep" / "out", rows, runs)
    assert sorted(path.name for path in (tmp_path / "deep" / "out").iterdir()) == NAMES
    assert sorted(path.name for path in paths) == NAMES
    assert json.loads((tmp_path / "deep" / "out" / "eval.json").read_text()) == to_json(rows)
    markdown = (tmp_path / "deep" / "out" / "table.md").read_text()
    # The published block stands after the table, under its own heading.
    assert markdown.index("| a |") < markdown.index("## Another data set") < markdown.index("| ParT |")


def test_report_of_a_pooled_background_and_of_a_class_with_a_plus(make_scores, tmp_path):
    pooled = make_scores(class_names=("QCD", "Tbqq", "Wqq"))
    report.write(tmp_path / "pooled", make_rows(pooled, signal=["Tbqq"], background=["QCD+Wqq"]), [pooled])
    plus = make_scores(class_names=("QCD", "W+"))
    report.write(tmp_path / "plus", make_rows(plus, signal=["QCD"], background=["W+"]), [plus])
    assert (tmp_path / "plus" / "roc.png").exists()


def test_writing_again_replaces_and_keeps_foreign_files(make_scores, tmp_path):
    scores = make_scores()
    (tmp_path / "mine.txt").write_text("keep")
    (tmp_path / "eval.json").write_text("old")
    report.write(tmp_path, make_rows(scores), [scores])
    assert json.loads((tmp_path / "eval.json").read_text())["schema"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*NAMES, "mine.txt"])


def test_wrong_input_leaves_nothing(make_scores, tmp_path):
    scores = make_scores()
    rows = make_rows(scores)
    kept = scores.label == 0
    one = Scores(scores.run, scores.class_names, scores.probabilities[kept], scores.label[kept])
    with pytest.raises(DataError):
        report.write(tmp_path / "out", rows, [one])
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_a_resource_error(make_scores, tmp_path):
    scores = make_scores()
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="--out") as caught:
        report.write(tmp_path / "file" / "out", make_rows(scores), [scores])
    assert caught.value.exit_code == 7
