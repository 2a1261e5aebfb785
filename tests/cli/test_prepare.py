"""From files to shards to a trained tagger, by the commands a person types."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jettag.data.dataset import SPLITS, SplitRule
from jettag.data.identity import file_sha256

from ..data.make import make_columns
from ..data.test_prepare import content
from .conftest import SMALL, SMALL_DECODER, write_root
from .test_generate import group_is_alive


@pytest.fixture(scope="module")
def shards(files, call_json, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "shards"
    common = ["--features", "jetclass_kin", "--split", "70:15:15", "--shard-jets", 100, "--workers", 1]
    found = call_json("data", "prepare", "generated", files / "train" / "*.root", "--out", out, *common)
    assert sum(found["jets"].values()) == 450
    assert found["split_by"] == "event_number"
    return out


def test_pretrain_finetune_and_eval_take_a_prepared_directory(shards, files, call_json, tmp_path):
    common = [*SMALL, "--set", "data.features=jetclass_kin"]
    named = manifest(shards)["shards"].items()
    counts = {split: sum(f["jets"] for n, f in named if n.startswith(split)) for split in ("train", "test")}
    pretrained = tmp_path / "pretrained"
    facts = call_json(
        "pretrain", "mpm", "--data", shards, "--out", pretrained, *common, *SMALL_DECODER, "--max-steps", 4
    )
    assert facts["n_train"] == counts["train"]
    assert [item["path"] for item in facts["inputs"]] == [str(shards / "dataset.json")]
    task = ["--task", "top", "--card", "generated", *common, "--max-steps", 20]
    tuned = call_json("finetune", *task, "--from", pretrained, "--data", shards, "--out", tmp_path / "tuned")
    assert set(tuned["class_names"]) == {"QCD", "Tbqq"}
    sampled = ["--set", "data.sampling={classes: {Tbqq: 2}, flat_in: {pt: [0, 40, 80, 1000]}}"]
    call_json("finetune", *task, *sampled, "--data", shards, "--out", tmp_path / "sampled")
    call_json("finetune", *task, *sampled, "--data", files / "train" / "*.root", "--out", tmp_path / "from_files")
    table = call_json("eval", tmp_path / "tuned", "--data", shards)
    assert 0 < table["rows"][0]["n_signal"] + table["rows"][0]["n_background"] < counts["test"]
    # The card travels with the shards, so files are read as the shards were made.
    assert call_json("eval", tmp_path / "tuned", "--data", *sorted((files / "test").glob("*.root")))["rows"]


def manifest(folder):
    return json.loads((folder / "dataset.json").read_text())


@pytest.fixture(scope="module")
def uninterrupted(call_json, tmp_path_factory):
    """A preparation that takes long enough for a signal: its words, and what comes of them."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    for seed in range(6):
        write_root(folder / f"{seed}.root", make_columns(3000, seed=seed))
    words = ["data", "prepare", "generated", folder / "*.root", "--shard-jets", 500, "--out"]
    call_json(*words, folder / "whole", "--workers", 1)
    return words, content(folder / "whole")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are listed through /proc")
@pytest.mark.parametrize(("number", "code"), [("SIGKILL", -9), ("SIGUSR1", 75)])
def test_a_signal_leaves_no_worker_and_the_command_goes_on(uninterrupted, call_json, tmp_path, number, code):
    words, whole = uninterrupted
    out = tmp_path / "shards"
    command = [sys.executable, "-m", "jettag_cli", *map(str, words), str(out), "--workers", "2"]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not list(out.glob(".staging/*.part")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.Signals[number])
    process.wait(120)
    end = time.monotonic() + 20
    while group_is_alive(process.pid):
        assert time.monotonic() < end, "a worker is left"
        time.sleep(0.1)
    err = process.stderr.read()
    assert process.returncode == code, err
    assert sum(line.startswith("error: ") for line in err.splitlines()) == (code > 0)
    assert "Traceback" not in err
    assert "leaked" not in err or number == "SIGKILL"
    assert not (out / "dataset.json").exists()
    call_json(*words, out, "--workers", 2)
    assert content(out) == whole


def test_features_of_another_recipe_end_in_one_line(shards, jettag, tmp_path):
    code, _, err = jettag(
        "pretrain", "mpm", "--data", shards, "--out", tmp_path / "r", "--set", "data.features=jetclass_full"
    )
    assert code == 4
    assert "prepared with features jetclass_kin where jetclass_full is wanted" in err
    code, _, err = jettag("data", "prepare", "generated", "nothing.root", "--out", tmp_path / "s")
    assert code == 4
    code, _, err = jettag("data", "prepare", "generated", "nothing.root", "--out", tmp_path / "s", "--split", "1")
    assert code == 2


def test_bench_loader_prints_rates_and_ratios(files, call_json):
    words = ["--card", "generated", "--rounds", 1, "--data", *sorted((files / "train").glob("*.root"))]
    found = call_json("bench", "loader", *words)
    assert found["jets"] == 450
    assert found["ratio"] is None
    ratio = found["root_jets_per_second"] / found["uproot_jets_per_second"]
    assert found["ratio_root_to_uproot"] == pytest.approx(ratio, rel=1e-3)


def test_convert_writes_what_others_read(files, call_json, jettag, tmp_path):
    found = call_json("data", "convert", "jetclass", files / "test" / "*.root", "--out", tmp_path / "all.root")
    assert found["jets"] == 450
    checked = call_json("data", "check", "generated", tmp_path / "all.root")
    assert checked["classes"] == {"QCD": 150, "Hbb": 150, "Tbqq": 150}
    assert jettag("data", "convert", "jetclass", files / "test" / "*.root", "--out", tmp_path / "all.csv")[0] == 2
    before = (tmp_path / "all.root").read_bytes()
    again = ["data", "convert", "jetclass", files / "test" / "QCD.root", "--out", tmp_path / "all.root"]
    code, _, err = jettag(*again)
    assert code == 2
    assert "the file exists already in" in err
    assert (tmp_path / "all.root").read_bytes() == before
    assert call_json(*again, "--overwrite")["jets"] == 150


def test_prepare_names_the_column_that_it_keeps(jettag, tmp_path):
    columns = make_columns(40)
    columns["part_deta"].layout.content.data[7] = 20.37
    words = ["data", "prepare", "generated", write_root(tmp_path / "far.root", columns), "--out", tmp_path / "s"]
    words += ["--split", "1:0:0", "--workers", 1]
    code, out, err = jettag(*words, "--dtype", "f16", "--dtype", "part_dzerr=f32", "--json")
    assert code == 0
    assert "part_deta reaches 20.37, where f16 rounds too much, and is kept in f32" in err
    features = set(manifest(tmp_path / "s")["feature_names"])
    assert features - set(json.loads(out)["f16"]) == {"part_deta", "part_dzerr"}
    code, _, err = jettag(*words, "--dtype", "part_dzer=f32")
    assert code == 2
    assert "did you mean part_dzerr" in err


def dealt(path, name, split, rule):
    """A file of one class that the rule deals to a split by its checksum, which is another in each writing."""
    for seed in range(200):
        write_root(path, make_columns(20, seed=seed, class_name=name))
        if SPLITS[rule.of_file(file_sha256(path))] == split:
            return path
    raise AssertionError(split)


def test_prepare_warns_of_a_split_without_jets_or_without_a_class(files, jettag, tmp_path):
    """Three files of one class each, dealt as wholes, cannot fill three splits with three classes."""
    rule = SplitRule(by="file", fractions=(0.5, 0.25, 0.25))
    places = {"QCD": "train", "Tbqq": "train", "Hbb": "val"}
    given = [dealt(tmp_path / f"{name}.root", name, split, rule) for name, split in places.items()]
    words = ["data", "prepare", "jetclass", "--workers", 1, "--json"]
    code, out, err = jettag(*words, *given, "--split-by", "file", "--split", "50:25:25", "--out", tmp_path / "s")
    assert code == 0
    assert json.loads(out)["jets"] == {"train": 40, "val": 20, "test": 0}
    told = {line.split("fell into ")[1].split(";")[0]: line for line in err.splitlines() if "fell into" in line}
    absent = {split: {name for name in places if name in line} for split, line in told.items()}
    assert absent == {"train": {"Hbb"}, "val": {"QCD", "Tbqq"}, "test": set()}
    files = sorted((files / "train").glob("*.root"))
    assert "fell into" not in jettag(*words, *files, "--split", "60:20:20", "--out", tmp_path / "whole")[2]
    alone = [dealt(tmp_path / "QCD.root", "QCD", "val", rule)]
    code, _, err = jettag(*words, *alone, "--split-by", "file", "--split", "50:25:25", "--out", tmp_path / "none")
    assert (code, "no jet left for training of 20 read" in err) == (4, True)


def test_prepare_goes_on_and_warns_where_the_disk_has_damaged_what_was_left(jettag, tmp_path, monkeypatch):
    jets = write_root(tmp_path / "jets.root", make_columns(40))
    words = ["data", "prepare", "generated", jets, "--split", "1:0:0", "--workers", 1, "--out"]
    code, _, err = jettag(*words, tmp_path / "whole")
    assert code == 0
    assert "warning" not in err

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as first:
        first.setattr("jettag.data.prepare.decide", interrupted)
        assert jettag(*words, tmp_path / "s")[0] == 130
    (stream,) = tmp_path.glob("s/.staging/*/p4")
    stream.write_bytes(stream.read_bytes()[:-1] + b"?")
    code, _, err = jettag(*words, tmp_path / "s")
    assert code == 0
    assert f"in {stream.parent}: {jets} is read again" in err
    for name in ("dataset.json", "train/00000.safetensors"):
        assert (tmp_path / "s" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_predict_embed_and_warnings_know_the_files_behind_shards(files, call_json, jettag, tmp_path):
    """The scores of shards are those of the files that they were made of, row by row through ``file`` and ``entry``."""
    train = sorted((files / "train").glob("*.root"))
    shards, run = tmp_path / "shards", tmp_path / "run"
    # float32, as the files have it.
    prepared = ["--split", "60:20:20", "--features", "jetclass_kin", "--dtype", "f32", "--workers", 1]
    call_json("data", "prepare", "generated", *train, "--out", shards, *prepared)
    small = [*SMALL, "--set", "data.features=jetclass_kin", "--max-steps", 2]
    facts = call_json("finetune", "--task", "top", "--card", "generated", *small, "--data", shards, "--out", run)
    assert facts["inputs"][0]["split"] == "train"
    assert len(facts["inputs"][0]["sources"]) == 3
    for command, column in (("predict", "score_Tbqq"), ("embed", "embedding")):
        code, _, err = jettag(command, run, "--data", *train, "--out", tmp_path / "files.h5", "--overwrite")
        assert code == 0, err
        assert (f"the run was trained on jets of {train[0]} and 2 more" in err) == (command == "predict")
        out = ["--out", tmp_path / "shards.h5", "--overwrite"]
        code, _, err = jettag(command, run, "--data", shards, shards / "train", *out)
        assert code == 0, err
        assert ("the run was trained on jets of" in err) == (command == "predict")
        ours, theirs = read_hdf5(tmp_path / "shards.h5"), read_hdf5(tmp_path / "files.h5")
        by_place = {(theirs[0][row["file"]], row["entry"]): row[column] for row in theirs[1]}
        counts = manifest(shards)["shards"].items()
        assert len(ours[1]) == sum(facts["jets"] for name, facts in counts if not name.startswith("val"))
        for row in ours[1]:
            assert row[column] == pytest.approx(by_place[ours[0][row["file"]], row["entry"]], abs=1e-5)
    for place, said in ((shards, None), (shards / "val", "chosen by its loss on"), (shards / "train", "trained on")):
        _, _, err = jettag("eval", run, "--data", place)
        assert ("flatter" in err) == (said is not None)
        assert said is None or said in err
    other = tmp_path / "other"
    call_json("data", "prepare", "generated", *train, "--out", other, *prepared, "--split", "20:20:60")
    assert "trained on jets of" in jettag("eval", run, "--data", other)[2]
    assert "flatter" not in jettag("eval", run, "--data", *sorted((files / "test").glob("*.root")))[2]


def read_hdf5(path):
    """(files, rows) of what predict and embed write."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path) as file:
        return json.loads(file["jets"].attrs["files"]), file["jets"][:]


def test_shards_of_a_file_and_the_file_are_the_same_jets(files, jettag, tmp_path):
    """By the content of the file behind the shards, wherever it lies; two splits of one rule have no jet in common."""
    file = files / "train" / "QCD.root"
    copy = tmp_path / "copy.root"
    copy.write_bytes(file.read_bytes())
    for name, split in (("one", "60:20:20"), ("same", "60:20:20"), ("other", "50:25:25")):
        features = ["--features", "jetclass_kin" if name == "same" else "jetclass_full"]
        words = ["data", "prepare", "generated", file, "--out", tmp_path / name, "--split", split, "--workers", 1]
        assert jettag(*words, *features)[0] == 0
    one, same, other = (tmp_path / name for name in ("one", "same", "other"))
    small = [*SMALL, *SMALL_DECODER, "--max-steps", 1]
    for train, val, said in (
        (file, copy, "jets of"),
        (one, file, "jets of"),
        (copy, one / "val", "jets of"),
        (one, other, "jets of"),
        (one / "val", one / "val", "are given twice"),
        (one / "train", one, None),
    ):
        run = tmp_path / "run"
        code, _, err = jettag("pretrain", "mpm", "--data", train, "--val", val, "--out", run, *small)
        assert code == (4 if said else 0), err
        assert not said or said in err
        assert not said or "in --data and --val; give disjoint files" in err
    scan = ["scan", "labels", "--task", "top", "--labels", 20, "--seeds", 1, "--modes", "scratch", "--data", same]
    code, _, err = jettag(*scan, "--test", other / "test", "--out", tmp_path / "scan")
    assert code == 4
    assert f"jets of {other / 'test'} are in {same} in --data and --test" in err
