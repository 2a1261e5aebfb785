"""jettag scan labels: every point is a run like any other, a scan goes on where it was, and is fair."""

import json
import multiprocessing
import os
import shutil
import signal

import numpy as np
import pytest
from safetensors.numpy import load_file

from jettag.training import Trainer

from .conftest import SMALL

FORK = multiprocessing.get_context("fork")  # the killed process needs no start-up of its own

SHORT = ["--labels", "40,80", "--seeds", 2, "--min-steps", 6, "--max-steps", 8]


def words(files, runs, out, *more, modes="scratch,full"):
    train = [files / "train" / f"{name}.root" for name in ("QCD", "Tbqq")]
    test = [files / "test" / f"{name}.root" for name in ("QCD", "Tbqq")]
    common = ["--task", "top", "--card", "jetclass", "--from", runs / "pretrain", "--modes", modes, *SMALL[2:]]
    return ["scan", "labels", *common, "--data", *train, "--test", *test, "--out", out, *SHORT, *more]


@pytest.fixture(scope="module")
def scanned(files, runs, call_json, tmp_path_factory):
    out = tmp_path_factory.mktemp("scan") / "labels"
    return out, call_json(*words(files, runs, out))


def last(run):
    folder = run / "checkpoints" / (run / "checkpoints" / "last").read_text().strip()
    return load_file(folder / "model.safetensors")


def test_json_has_the_contracts_keys_for_every_point(scanned):
    out, found = scanned
    assert len(found["rows"]) == 2 * 2 * 2
    assert {(row["mode"], row["n_train"], row["seed"]) for row in found["rows"]} == {
        (mode, n, seed) for mode in ("scratch", "full") for n in (40, 80) for seed in (0, 1)
    }
    assert len(found["aggregate"]) == 4
    for row in found["aggregate"]:
        same = [r for r in found["rows"] if (r["mode"], r["n_train"]) == (row["mode"], row["n_train"])]
        values = [r["background_rejection"] for r in same]
        assert row["auc_mean"] == pytest.approx(np.mean([r["auc"] for r in same]))
        assert {"background_rejection_mean", "background_rejection_std", "background_rejection_median"} <= set(row)
        if None not in values:
            assert row["background_rejection_mean"] == pytest.approx(np.mean(values))
            assert row["background_rejection_median"] == pytest.approx(np.median(values))
    assert {row["n_train"] for row in found["label_saving"]} == {40, 80}
    assert json.loads((out / "scan.json").read_text())["rows"] == found["rows"]
    for name in ("label_efficiency.png", "label_efficiency.pdf"):
        assert (out / name).stat().st_size > 1000 or (out / "plots" / name).is_file()


def test_a_scan_that_lost_points_makes_them_again_and_touches_no_other(scanned, files, runs, call_json, tmp_path):
    whole, found = scanned
    out = shutil.copytree(whole, tmp_path / "labels")
    kept = out / "runs" / "full-40-seed0" / "run.json"
    before = kept.stat().st_mtime_ns
    weights = last(out / "runs" / "scratch-80-seed1")
    shutil.rmtree(out / "runs" / "scratch-80-seed1")
    (out / "runs" / "full-80-seed1" / "point.json").unlink()
    again = call_json(*words(files, runs, out))
    assert kept.stat().st_mtime_ns == before
    drop = {"seconds"}
    assert [{k: v for k, v in row.items() if k not in drop} for row in again["rows"]] == [
        {k: v for k, v in row.items() if k not in drop} for row in found["rows"]
    ]
    for name, value in last(out / "runs" / "scratch-80-seed1").items():
        assert np.array_equal(value, weights[name]), name


def die_at(jettag, call, run, step, number):
    """Run a command that gets a signal before a step of one of its trainings."""
    update = Trainer.update

    def fatal(self, limits):
        if self.run.name == run and self.step == step:
            os.kill(os.getpid(), number)
        return update(self, limits)

    Trainer.update = fatal
    os._exit(jettag(*call)[0])


def test_killed_in_the_middle_of_a_point_the_same_command_ends_with_the_same_table(
    scanned, files, runs, jettag, call_json, tmp_path
):
    """SIGKILL in the first point, SIGTERM in the second: what was finished stays, what was begun goes on."""
    _, found = scanned
    out = tmp_path / "labels"
    call = words(files, runs, out, "--labels", "40", "--seeds", 1)
    for run, number, code in (
        ("scratch-40-seed0", signal.SIGKILL, -signal.SIGKILL),
        ("full-40-seed0", signal.SIGTERM, 143),
    ):
        process = FORK.Process(target=die_at, args=(jettag, call, run, 3, number))
        process.start()
        process.join(120)
        assert process.exitcode == code
        assert not (out / "runs" / run / "point.json").exists()
        assert (out / "runs" / run / "checkpoints" / "last").exists()
    finished = out / "runs" / "scratch-40-seed0" / "point.json"
    before = finished.stat().st_mtime_ns
    again = call_json(*call)
    assert finished.stat().st_mtime_ns == before
    expected = [row for row in found["rows"] if (row["n_train"], row["seed"]) == (40, 0)]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in again["rows"]] == [
        {k: v for k, v in row.items() if k != "seconds"} for row in expected
    ]
    assert again["failed"] == []


def test_a_point_is_what_finetune_makes_of_its_recipe(scanned, files, runs, call_json, tmp_path):
    out, _ = scanned
    point = out / "runs" / "full-40-seed1"
    data = [files / "train" / f"{name}.root" for name in ("QCD", "Tbqq")]
    run = tmp_path / "run"
    recipe = ["--recipe", point / "recipe.yaml", "--from", runs / "pretrain"]
    call_json("finetune", "--task", "top", *recipe, "--data", *data, "--out", run)
    for name, value in last(run).items():
        assert np.array_equal(value, last(point)[name]), name


def test_a_point_of_prepared_jets_is_what_finetune_makes_of_them(files, call_json, tmp_path):
    """The scan keeps the jets that its points draw; finetune draws from the whole directory."""
    prepared, out, run = tmp_path / "prepared", tmp_path / "scan", tmp_path / "run"
    train = [files / "train" / f"{name}.root" for name in ("QCD", "Tbqq", "Hbb")]
    call_json("data", "prepare", "jetclass", *train, "--out", prepared, "--split", "80:10:10")
    common = ["--task", "top", "--labels", "20,60", "--seeds", 2, "--modes", "scratch", *SMALL]
    steps = ["--min-steps", 3, "--max-steps", 3]
    call_json("scan", "labels", *common, *steps, "--data", prepared, "--test", prepared / "test", "--out", out)
    point = out / "runs" / "scratch-20-seed1"
    call_json("finetune", "--task", "top", "--recipe", point / "recipe.yaml", "--data", prepared, "--out", run)
    for name, value in last(run).items():
        assert np.array_equal(value, last(point)[name]), name


def test_what_is_not_fair_or_not_there_is_one_line(scanned, files, runs, jettag, tmp_path):
    out, _ = scanned
    train = files / "train" / "QCD.root"
    for more, code, what in (
        (["--labels", "9999", "--out", tmp_path / "e"], 4, "9999 labels asked for"),
        (["--test", train, "--out", tmp_path / "a"], 4, "given twice in --data and --test"),
        (["--modes", "scratch,ful", "--out", tmp_path / "b"], 2, "full"),
        (["--labels", "some", "--out", tmp_path / "c"], 2, "are no numbers"),
        (["--set", "training.learning_rate=0.5"], 2, ""),
    ):
        found, _, err = jettag(*words(files, runs, out if "--out" not in more else tmp_path, *more))
        assert found == code, (more, err)
        assert err.strip().splitlines()[-1].startswith("error: ")
        assert what in err
    no_from = [word for word in words(files, runs, tmp_path / "d") if word not in ("--from", runs / "pretrain")]
    code, _, err = jettag(*no_from)
    assert code == 2
    assert "--from" in err
