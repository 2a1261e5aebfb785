"""jettag weak calibrate, shift, outliers, study: taggers judged by probabilities, domains, outliers, and recipes."""

import json

import numpy as np
import pytest

from jettag.config import dump_yaml, list_shipped
from jettag.config.study import load_study

from ..data.make import make_columns
from .conftest import SMALL, write_root


def patterns(files, part, *classes):
    return [str(files / part / f"{name}.root") for name in classes]


def test_every_run_has_its_rows_and_the_ensemble_two(files, runs, call_json, jettag, tmp_path):
    taggers = [runs / "finetuned", runs / "scratch"]
    both = ("QCD", "Tbqq")
    words = ["--data", *patterns(files, "train", *both), "--test", *patterns(files, "test", *both)]
    found = call_json("weak", "calibrate", *taggers, *words, "--out", tmp_path / "out")
    rows = [(row["run"], row["method"]) for row in found["rows"]]
    assert len(rows) == 8
    assert rows[-2:] == [("ensemble of 2", "as it is"), ("ensemble of 2", "temperature")]
    for before, after in zip(found["rows"], found["rows"][1:], strict=False):
        if after["method"] == "temperature":
            assert after["accuracy"] == before["accuracy"]  # the argmax stays
            assert after["temperature"] > 0
    assert (found["n_calibration"], found["n_test"]) == (300, 300)
    assert (tmp_path / "out" / "reliability.png").stat().st_size > 1000
    assert "nats" in (tmp_path / "out" / "table.md").read_text()
    judges = patterns(files, "test", *both)
    code, _, err = jettag("weak", "calibrate", runs / "scratch", "--data", *judges, "--test", *judges)
    assert (code, "twice in --data and --test" in err) == (4, True)  # no temperature is fitted on jets that judge
    code, _, err = jettag("weak", "shift", runs / "scratch", "--source", *judges, "--target", *judges)
    assert (code, "twice in --source and --target" in err) == (4, True)


def test_shards_that_calibrate_do_not_judge(files, call_json, jettag, tmp_path):
    """Each command reads one split of a directory that names none, and that split is looked up."""
    shards, run = tmp_path / "shards", tmp_path / "run"
    words = ["jetclass", *patterns(files, "train", "QCD", "Tbqq"), "--out", shards, "--split", "40:30:30"]
    call_json("data", "prepare", *words, "--split-by", "entry")
    call_json("finetune", "--task", "top", "--data", shards, "--out", run, *SMALL, "--max-steps", 2)
    found = call_json("weak", "calibrate", run, "--data", shards, "--test", shards)
    assert found["n_calibration"] + found["n_test"] < 300
    assert any("was chosen by its loss" in note for note in found["notes"])  # on the split that calibrates
    code, _, err = jettag("weak", "calibrate", run, "--data", shards, "--test", shards / "val")
    assert (code, "in --data and --test" in err) == (4, True)
    code, _, err = jettag("weak", "shift", run, "--source", shards, "--target", shards)
    assert (code, "in --source and --target; give disjoint files" in err) == (4, True)


def test_a_shift_is_measured_and_the_same_sample_has_none(files, runs, call_json, jettag, tmp_path):
    source = ["--source", *patterns(files, "train", "QCD", "Tbqq")]
    same = call_json(
        "weak", "shift", runs / "finetuned", *source, "--target", *patterns(files, "test", "QCD", "Tbqq"), "--runs", 3
    )
    assert same["notes"] == ["3 runs: a band wants at least 10"]
    for row in same["rows"]:
        each = [run["distance"] for run in same["runs"] if run["method"] == row["method"]]
        assert [row[f"distance{end}"] for end in ("", "_low", "_high")] == np.quantile(each, [0.5, 0.16, 0.84]).tolist()
    assert [row["method"] for row in same["rows"]] == ["none", "reweight", "ot-score", "ot-embedding"]
    first, weighted = same["rows"][:2]
    assert first["effective_sample_size"] == same["n_source"]
    assert 1 <= weighted["effective_sample_size"] <= max(run["effective_sample_size"] for run in same["runs"])
    assert 0 <= first["background_efficiency_true"] <= 1
    moved = [*source, "--target", *patterns(files, "test", "Tbqq"), "--no-truth"]
    other = call_json(
        "weak", "shift", runs / "finetuned", *moved, "--methods", "none,ot-score", "--out", tmp_path / "out"
    )
    none, transported = other["rows"]
    assert none["distance"] > first["distance"]
    assert transported["distance"] < 0.5 * none["distance"]
    assert none["signal_efficiency_true"] is None
    code, _, err = jettag("weak", "shift", runs / "finetuned", *moved, "--methods", "otscore")
    assert (code, "ot-score" in err) == (2, True)


def test_a_simulation_that_is_wrong_costs_rejection(call_json, jettag, tmp_path):
    """Its signal stands out in a feature that tells nothing in the data, where its background is right."""
    random = np.random.default_rng(4)
    for part, count in (("train", 700), ("test", 700), ("simulation", 1400)):
        for name, shift in (("QCD", 0.0), ("Tbqq", 1.0)):
            columns = make_columns(count, seed=len(part), class_name=name, longest=3)
            wrong = 2.0 * shift if part == "simulation" else 0.0
            columns |= {"jet_tau1": random.normal(shift, 1, count), "jet_sdmass": random.normal(wrong, 1, count)}
            write_root(tmp_path / part / f"{name}.root", columns)
    words = ["--background", *patterns(tmp_path, "train", "QCD"), "--signal", *patterns(tmp_path, "train", "Tbqq")]
    test_qcd, test_signal = patterns(tmp_path, "test", "QCD", "Tbqq")
    words += ["--test", test_qcd, test_signal, "--simulation", tmp_path / "simulation" / "*.root"]
    small = [f"options.{key}" for key in ("runs=2", "features=[tau1,sdmass]", "folds=2", "card=jetclass")]
    words += [word for value in small for word in ("--set", value)]
    found = call_json("weak", "study", "weak-simulators", *words, "--out", tmp_path / "out")
    same = {row["class"]: row for row in found["same"]}
    assert abs(same["background"]["two_sample_auc_median"] - 0.5) < 4 * same["background"]["two_sample_sigma_median"]
    assert same["signal"]["two_sample_auc_median"] > 0.85  # two unit Gaussians, two sigma apart: 0.92
    taggers = {row["trained"]: row for row in found["taggers"]}
    assert taggers["simulation"]["lost_median"] > 0.1
    assert taggers["data"]["lost_median"] == 0
    assert taggers["data"]["auc_median"] > taggers["simulation"]["auc_median"]
    assert [row["method"] for row in found["rows"]] == ["none", "reweight", "ot-score", "ot-features"]
    none, *corrected = found["rows"]
    assert none["effective_share_median"] == pytest.approx(1)
    assert all(row["distance_median"] < none["distance_median"] for row in corrected)
    assert 0 < corrected[0]["effective_share_median"] < 1
    (label_free,), alone = (found["no_signal"][kind] for kind in ("taggers", "rows"))
    assert abs(label_free["auc_median"] - 0.5) < 4 * label_free["auc_sigma_median"]
    assert 1.5 < label_free["background_rejection_median"] < 2.7
    assert [row["method"] for row in alone] == ["none", "reweight", "ot-score", "ot-features"]
    assert all(abs(row["excess_sigma_median"]) < 3 for row in alone)  # the background is right
    table = (tmp_path / "out" / "table.md").read_text()
    assert "rejection lost" in table
    assert table.count("| ot-features |") == 2  # with signal and without
    assert all((tmp_path / "out" / f"simulators.{kind}").stat().st_size > 1000 for kind in ("png", "pdf"))
    printed = jettag("weak", "study", "weak-simulators", *words, "--set", "options.methods=none")[1]
    assert "two-sample AUC of signal" in printed
    assert "Without signal" in printed
    assert max(len(line) for line in printed.splitlines()) <= 80
    columns = make_columns(700, seed=9, class_name="QCD", longest=3)
    planted = 3.0 * (np.arange(700) < 210)  # signal as the simulation has it, in the data's background
    columns |= {"jet_tau1": random.normal(planted / 3, 1), "jet_sdmass": random.normal(planted, 1)}
    write_root(tmp_path / "planted" / "QCD.root", columns)
    mixed = [str(tmp_path / "planted" / "QCD.root") if word == test_qcd else word for word in words]
    found = call_json("weak", "study", "weak-simulators", *mixed, "--set", "options.methods=none")
    assert found["no_signal"]["rows"][0]["excess_sigma_median"] > 3
    for change, wanted, said in (
        ("options.methods=ot", 2, "ot-score"),
        ("options.methods=','", 2, "no method"),
        ("options.jets=60", 4, "60 background jets that a run sees of --simulation"),
    ):
        code, _, err = jettag("weak", "study", "weak-simulators", *words, "--set", change)
        assert (code, said in err) == (wanted, True), err


def _bad(folder, count, value):
    """Background of which one jet has this multiplicity."""
    counts = np.where(np.arange(count) == 3, value, 9.0)
    path = folder / f"bad{count}.root"
    return write_root(path, make_columns(count, seed=count, class_name="QCD", longest=3) | {"jet_nparticles": counts})


def test_outliers_are_judged_on_every_other_class(files, runs, call_json, jettag, tmp_path):
    words = ["--background", *patterns(files, "train", "QCD"), "--test", files / "test" / "*.root", "--from"]
    more = [runs / "pretrain", "--runs", 1, "--epochs", 1, "--methods", "distance,vae"]
    found = call_json(
        "weak", "outliers", *words, *more, "--inputs", "constituents,embedding", "--out", tmp_path / "out"
    )
    assert {row["signal"] for row in found["rows"]} == {"Tbqq", "Hbb", "no signal"}
    assert len(found["rows"]) == 12
    nothing = [row for row in found["rows"] if row["signal"] == "no signal"]
    assert all(0.3 < row["auc_median"] < 0.7 for row in nothing)  # 30 jets of the background itself
    assert "Row no signal: background that was not fitted" in (tmp_path / "out" / "table.md").read_text()
    for row in found["improvement"]:
        assert row["min_median"] <= row["median_median"] <= row["max_median"]
    assert "Total improvement" in (tmp_path / "out" / "table.md").read_text()
    bad = ["weak", "outliers", "--features", "nparticles", "--background", *patterns(files, "train", "QCD"), "--test"]
    for words, code, said in (
        ([*patterns(files, "test", "QCD")], 4, "not of two classes"),
        ([files / "test" / "*.root", "--inputs", "embedding"], 2, "--from"),
        ([files / "test" / "*.root", "--methods", "vea"], 2, "vae"),
        ([*patterns(files, "train", "QCD")], 4, "twice in --background and --test"),
    ):
        found, _, err = jettag(*bad, *words)
        assert (found, said in err) == (code, True), err
    for path, said in (
        (_bad(tmp_path, 60, np.nan), "nparticles are NaN"),
        (_bad(tmp_path, 20, 1.0), "20 background jets"),
    ):
        more = ["--features", "nparticles", "--inputs", "features", "--test", *patterns(files, "test", "QCD", "Hbb")]
        found, _, err = jettag("weak", "outliers", "--background", path, *more)
        assert (found, said in err) == (4, True), err


STUDIES = [name for name in list_shipped("recipes") if name.startswith("weak-")]


@pytest.mark.parametrize("name", STUDIES)
def test_shipped_studies_have_options_of_their_commands(name, jettag):
    code, _, err = jettag("validate", name)
    assert (code, f"jettag {load_study(name).command}" in err) == (0, True)


def test_a_study_is_its_command(files, call_json, jettag, tmp_path):
    words = ["--background", *patterns(files, "train", "QCD"), "--signal", *patterns(files, "train", "Tbqq")]
    words += ["--test", *patterns(files, "test", "QCD", "Tbqq"), "--card", "jetclass"]
    small = [f"options.{key}" for key in ("runs=1", "rows=trees", "fractions=0.3", "features=nparticles")]
    sets = [word for value in small for word in ("--set", value)]
    found = call_json("weak", "study", "weak-top", *words, *sets, "--out", tmp_path / "study")
    assert {(row["method"], row["fraction"]) for row in found["rows"]} == {
        ("cwola", 0.0), ("cwola", 0.3), ("supervised", None)
    }  # fmt: skip
    mistaken = load_study("weak-top", ["options.run=3"])
    (tmp_path / "mine.yaml").write_text(dump_yaml(mistaken))
    code, _, err = jettag("weak", "study", tmp_path / "mine.yaml", *words)
    assert (code, "options.run" in err, "runs" in err) == (3, True, True)
    code, _, err = jettag("weak", "study", "top", *words)
    assert (code, "jettag finetune" in err) == (3, True)
    code, _, err = jettag("weak", "study", "weak-top")
    assert (code, "--background" in err) == (2, True)
    assert json.loads(jettag("validate", "weak-top", "--json")[1])["valid"]
