"""pretrain, finetune, eval, predict, embed: the contract, as a script sees it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import torch
import uproot

from jettag.config.recipe import PretrainRecipe
from jettag.training import Trainer

from .conftest import SMALL, SMALL_DECODER

ROW_KEYS = {
    "run", "signal", "background", "n_signal", "n_background", "auc", "accuracy", "signal_efficiency",
    "background_rejection", "background_rejection_low", "background_rejection_high", "n_background_pass", "threshold",
    "seed", "parameters", "n_train",
}  # fmt: skip


def test_the_run_directory_is_the_contracts(runs):
    for name, classes in (("pretrain", []), ("finetuned", ["QCD", "Tbqq"])):
        folder = runs / name
        present = {path.name for path in folder.iterdir()}
        assert {"recipe.yaml", "card.yaml", "run.json", "metrics.jsonl", "checkpoints", "README.md"} <= present
        facts = json.loads((folder / "run.json").read_text())
        for key in ("version", "seed", "command", "host", "torch", "inputs", "feature_names"):
            assert facts[key] is not None, key
        assert facts["class_names"] == classes
        assert all(set(item) == {"path", "bytes", "sha256", "role"} for item in facts["inputs"])
        best = (folder / "checkpoints" / "best").read_text().strip()
        assert {p.name for p in (folder / "checkpoints" / best).iterdir()} == {
            "model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json",
        }  # fmt: skip
        assert (folder / "README.md").read_text().startswith("---\n")


def test_jets_of_other_classes_are_left_out_and_counted(files, jettag, runs):
    facts = json.loads((runs / "scratch" / "run.json").read_text())
    assert facts["n_train"] == 270  # 300 jets of two classes, a tenth held out
    code, _, err = jettag("eval", runs / "scratch", "--data", *sorted((files / "test").glob("*.root")))
    assert code == 0
    assert "150 other classes" in err


def test_eval_prints_one_json_object_with_the_contracts_keys(files, call_json, runs):
    test = files / "test" / "*.root"
    found = call_json("eval", runs / "finetuned", runs / "scratch", "--data", test)
    assert found["schema"] == 1
    assert [row["signal_efficiency"] for row in found["rows"]] == [0.3, 0.5, 0.3, 0.5]
    assert all(set(row) == ROW_KEYS for row in found["rows"])
    assert {row["run"] for row in found["rows"]} == {"finetuned", "scratch"}
    assert found["rows"][0]["n_signal"] == found["rows"][0]["n_background"] == 150
    assert found["rows"][0]["auc"] > 0.7  # the classes differ in width by a factor of three
    only = call_json(
        *("eval", runs / "scratch", "--data", test, "--signal", "Tbqq", "--background", "QCD", "--efficiency", 0.4)
    )
    assert [row["signal_efficiency"] for row in only["rows"]] == [0.4]


def test_a_class_in_front_of_a_glob_replaces_the_label_branches(files, call_json, runs):
    named = [f"QCD:{files}/test/QCD.root", f"Tbqq:{files}/test/Tbqq.root"]
    by_name = call_json("eval", runs / "scratch", "--data", *named)
    by_branch = call_json("eval", runs / "scratch", "--data", files / "test" / "QCD.root", files / "test" / "Tbqq.root")
    assert by_name == by_branch


def test_predictions_are_what_eval_judged_row_by_row(files, jettag, runs, tmp_path):
    test = [files / "test" / "QCD.root", files / "test" / "Tbqq.root"]
    for kind in ("root", "parquet", "h5"):
        code, _, err = jettag("predict", runs / "scratch", "--data", *test, "--out", tmp_path / f"scores.{kind}")
        assert code == 0, err
    with uproot.open(tmp_path / "scores.root") as file:
        columns = file["tree"].arrays(library="np")
    with h5py.File(tmp_path / "scores.h5") as file:
        table = file["jets"][:]
    assert len(table) == 300
    for name in ("score_QCD", "score_Tbqq", "entry", "file"):
        np.testing.assert_array_equal(columns[name], table[name])
    np.testing.assert_allclose(table["score_QCD"] + table["score_Tbqq"], 1, rtol=1e-6)
    signal, background = table["score_Tbqq"][table["file"] == 1], table["score_Tbqq"][table["file"] == 0]
    threshold = np.quantile(signal, 0.7, method="lower")
    code, out, _ = jettag("eval", runs / "scratch", "--data", *test, "--efficiency", 0.3, "--json")
    row = json.loads(out)["rows"][0]
    assert row["n_background_pass"] == (background >= threshold).sum()


def test_scores_in_bf16_are_those_in_single_precision_but_for_rounding(files, jettag, call_json, runs, tmp_path):
    """Eight bits of mantissa: probabilities and embeddings move by a few per cent at most, and not by nothing."""
    test = [files / "test" / "QCD.root", files / "test" / "Tbqq.root"]
    half = ["--precision", "bf16"]
    for command, run, column in (("predict", "scratch", "score_Tbqq"), ("embed", "pretrain", "embedding")):
        found = []
        for more in ([], half):
            path = tmp_path / f"{command}{len(more)}.h5"
            assert jettag(command, runs / run, "--data", *test, "--out", path, *more)[0] == 0
            with h5py.File(path) as file:
                found.append(file["jets"][column])
                facts = dict(file["jets"].attrs) | dict(file.attrs)
        assert "bf16" in {str(value) for value in facts.values()}
        assert len(np.unique(found[1])) > 0.9 * len(np.unique(found[0]))  # logits are not rounded to eight bits
        width = found[0].std()
        assert 0 < np.abs(found[0] - found[1]).max() < 0.2 * width
    exact, rounded = (call_json("eval", runs / "scratch", "--data", *test, *more) for more in ([], half))
    assert rounded["rows"][0]["auc"] == pytest.approx(exact["rows"][0]["auc"], abs=0.005)
    assert (exact["precision"], rounded["precision"]) == ("fp32", "bf16")
    tables = [jettag("eval", runs / "scratch", "--data", *test, *more)[1] for more in ([], half)]
    assert ["bf16" in table for table in tables] == [False, True]


def test_embeddings_have_one_row_a_jet(files, jettag, runs, tmp_path):
    code, _, err = jettag("embed", runs / "pretrain", "--data", files / "test" / "QCD.root", "--out", tmp_path / "e.h5")
    assert code == 0, err
    with h5py.File(tmp_path / "e.h5") as file:
        assert file["jets"]["embedding"].shape == (150, 16)


def test_the_report_is_complete(files, jettag, runs, tmp_path):
    code, _, _ = jettag("eval", runs / "scratch", "--data", files / "test" / "*.root", "--out", tmp_path / "report")
    assert code == 0
    wanted = {"eval.json", "table.md", "table.tex", "roc.png", "roc.pdf", "scores.png", "scores.pdf"}
    assert {path.name for path in (tmp_path / "report").iterdir()} == wanted


def test_a_backbone_has_no_classes_to_judge(files, jettag, runs):
    code, _, err = jettag("eval", runs / "pretrain", "--data", files / "test" / "*.root")
    assert code == 5
    assert "fine-tune it first" in err


def test_a_class_that_no_run_has_is_refused_before_a_file_is_read(jettag, runs, tmp_path):
    (tmp_path / "no.root").write_text("not a ROOT file")
    words = ("eval", runs / "finetuned", runs / "scratch", "--data", tmp_path / "no.root")
    for wrong in (["--signal", "Tbqk"], ["--background", "QCD+Tbqk"], ["--signal", "QCD", "--background", "QCD"]):
        code, _, err = jettag(*words, *wrong)
        assert (code, err.count("\n")) == (2, 1)
        assert "Tbqq" in err or "both signal and background" in err
    assert jettag(*words, "--signal", "Tbqq")[0] == 4


def test_a_file_is_not_trained_on_and_judged(files, jettag, tmp_path):
    file = files / "train" / "QCD.root"
    code, _, err = jettag("pretrain", "mpm", "--data", file, "--val", file, "--out", tmp_path / "run", *SMALL)
    assert code == 4
    assert f"error: the jets of {file} are given twice in --data and --val; give disjoint files" in err


def test_features_of_another_kind_are_refused_by_name(files, jettag, runs, tmp_path):
    code, _, err = jettag(
        *("finetune", "--from", runs / "pretrain", "--data", files / "train" / "*.root", "--out", tmp_path / "run"),
        *("--set", "data.features=jetclass_kin", *SMALL),
    )
    assert code == 5
    assert "--set data.features=jetclass_full" in err


def test_a_run_is_never_overwritten(files, jettag, runs):
    code, _, err = jettag(
        *("finetune", "--data", files / "train" / "*.root", "--out", runs / "scratch", "--max-steps", 2, *SMALL)
    )
    assert code == 2
    assert "--resume" in err


def test_pretraining_needs_no_labels(files, jettag, tmp_path):
    """Take the label branches away: the same file gives the same backbone."""
    from ..data.make import make_columns, without
    from .conftest import write_root

    columns = make_columns(60, seed=3)
    write_root(tmp_path / "with.root", columns)
    write_root(tmp_path / "bare.root", without(columns, "label_", "event_number", "jet_nparticles"))
    for name in ("with", "bare"):
        code, _, err = jettag(
            *("pretrain", "mpm", "--data", tmp_path / f"{name}.root", "--out", tmp_path / name, "--max-steps", 4),
            *SMALL, *SMALL_DECODER,
        )  # fmt: skip
        assert code == 0, err
    losses = [
        [json.loads(line).get("loss") for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("with", "bare")
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ["mpm-regression", "mpm-flow", "mpm-setflow"])
def test_every_masked_target_makes_a_backbone(files, call_json, tmp_path, name):
    run = tmp_path / "run"
    decoder = ["--set", "objective.decoder={dim: 16, layers: 1, heads: 2}"]
    data = ["--data", *sorted((files / "train").glob("*.root"))]
    facts = call_json("pretrain", name, *data, "--out", run, *SMALL, *decoder, "--max-steps", 6)
    assert facts["steps"] == 6
    assert np.isfinite(facts["best_val_loss"])
    facts = call_json("embed", run, "--data", files / "test" / "QCD.root", "--out", tmp_path / "e.parquet")
    assert (tmp_path / "e.parquet").is_file()


@pytest.mark.parametrize("name", ["jetclr", "both", "supervised"])
def test_contrast_both_and_labels_make_a_backbone_and_a_probe_tells_how_good(files, call_json, jettag, tmp_path, name):
    run = tmp_path / "run"
    small = {
        "jetclr": ["objective.projection={hidden: 16, dim: 8}"],
        "both": ["objective.masked.target.codes=16", "objective.masked.decoder={dim: 16, layers: 1, heads: 2}"],
        "supervised": ["classes=[QCD, Tbqq]"],
    }[name]
    changes = [part for change in (*small, "probe.jets=200") for part in ("--set", change)]
    data = ["--data", *sorted((files / "train").glob("*.root"))]
    probe = ["--probe", "QCD,Tbqq"]
    facts = call_json("pretrain", name, *data, "--out", run, *SMALL, *changes, *probe, "--max-steps", 6)
    assert facts["steps"] == 6
    assert facts["class_names"] == (["QCD", "Tbqq"] if name == "supervised" else [])
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    probed = [record for record in records if "probe_auc" in record]
    assert [record["step"] for record in probed] == [0, 6]  # the untrained network too: growth begins there
    assert all(0 <= record[name] <= 1 for record in probed for name in ("probe_accuracy", "probe_auc"))
    code, _, err = jettag("eval", run, "--data", files / "test" / "*.root")
    assert (code == 0) == (name == "supervised"), err


def test_labels_are_refused_where_none_are_used_and_missed_where_they_are(files, jettag, tmp_path):
    data = ["--data", *sorted((files / "train").glob("*.root")), "--out", tmp_path / "run"]
    code, _, err = jettag("pretrain", "mpm", *data, "--set", "classes=[QCD, Tbqq]")
    assert code == 3
    assert "takes no classes" in err
    code, _, err = jettag("pretrain", "supervised", *data, "--set", "classes=[]")
    assert code == 3
    assert "takes at least two classes" in err


def test_a_tokenizer_is_trained_told_and_used(files, jettag, call_json, runs, tmp_path):
    tokens, run = tmp_path / "tokens", tmp_path / "run"
    data = ["--data", *sorted((files / "train").glob("*.root"))]
    small = ["--set", "objective.codes=16", "--set", "objective.width=16", "--set", "data.batch_size=32"]
    facts = call_json("pretrain", "tokenizer", *data, "--out", tokens, *small, "--max-steps", 6)
    assert facts["task"] == "tokenizer"
    last = json.loads((tokens / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["val_error_deta_rad"] > 0
    assert 1 <= last["val_code_perplexity"] <= 16
    decoder = ["--set", "objective.decoder={dim: 16, layers: 1, heads: 2}", *SMALL, "--max-steps", 4]
    use = ["pretrain", "mpm-vqvae", *data, *decoder]
    facts = call_json(*use, "--set", f"objective.target.tokenizer={tokens}", "--out", run)
    assert len(facts["tokenizer_sha256"]) == 64
    for words, code, what in (
        ([*use, "--set", f"objective.target.tokenizer={tmp_path / 'none'}"], 5, "no such run"),
        ([*use, "--set", f"objective.target.tokenizer={runs / 'pretrain'}"], 5, "not a tokenizer"),
        ([*use, "--set", f"objective.target.tokenizer={tokens}", "--set", "data.features=jetclass_kin"], 5, "features"),
        (["finetune", "--from", tokens, *data, "--out", tmp_path / "tuned"], 5, "a tokenizer has no backbone"),
        (["embed", tokens, *data, "--out", tmp_path / "e.parquet"], 5, "a tokenizer has no backbone"),
    ):
        found, _, err = jettag(*words, *([] if "--out" in words else ["--out", tmp_path / "other"]))
        assert found == code, err
        assert what in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGUSR1, 75)])
def test_a_signal_saves_and_the_rest_can_be_resumed(files, jettag, tmp_path, number, code):
    words = [
        *("pretrain", "mpm", "--data", str(files / "train" / "*.root"), "--out", str(tmp_path / "run"), *SMALL),
        *(*SMALL_DECODER, "--set", "training.val_every=20", "--resume", "--max-steps"),
    ]
    command = [sys.executable, "-m", "jettag_cli", *words, "100000"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoints" / "last").is_file():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err.strip().splitlines()[-1].startswith("error: stopped at step")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["stopped"] == code
    stopped_at = int((tmp_path / "run" / "checkpoints" / "last").read_text().strip().removeprefix("step-"))
    done, _, err = jettag(*words, stopped_at + 3)
    assert done == 0, err
    assert f"resumed at step {stopped_at}" in err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["stopped"] is None


def test_a_run_that_ends_before_a_validation_has_no_best_loss(files, jettag, call_json, tmp_path, monkeypatch):
    words = ["pretrain", "mpm", "--data", files / "train" / "*.root", *SMALL, *SMALL_DECODER, "--out", tmp_path]
    update = Trainer.update

    def stopping(self, limits):
        os.kill(os.getpid(), signal.SIGUSR1)
        return update(self, limits)

    monkeypatch.setattr(Trainer, "update", stopping)
    assert jettag(*words, "--max-steps", 9)[0] == 75
    assert call_json(*words, "--resume", "--max-steps", 1)["best_val_loss"] is None


def test_a_resumed_run_is_the_one_that_was_begun(files, jettag, runs, tmp_path):
    """Another recipe or other files are refused by name; a longer run is the same run."""
    run = tmp_path / "run"
    shutil.copytree(runs / "scratch", run)
    train = sorted((files / "train").glob("*.root"))
    same = ["finetune", "--task", "top", "--card", "jetclass", *SMALL, "--out", run, "--resume", "--max-steps", 62]
    code, _, err = jettag(*same, "--data", *train, "--set", "training.learning_rate=0.1")
    assert code == 5
    assert "training.learning_rate: 0.001 then, 0.1 now" in err
    code, _, err = jettag(*same, "--data", *sorted((files / "test").glob("*.root")))
    assert code == 5
    assert "other files" in err
    seen = ["--set", "training.epochs=100", "--set", "training.val_every=1", "--set", "training.log_every=1"]
    code, _, err = jettag(*same, "--data", *train, *seen)
    assert code == 0, err
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps[-4:] == [61, 61, 62, 62]
    assert json.loads((run / "run.json").read_text())["steps"] == 62


def test_judging_on_training_jets_is_said_by_content_and_for_the_backbone_too(files, jettag, runs, tmp_path):
    copies = []
    for name in ("QCD", "Tbqq"):
        copies.append(tmp_path / f"copy_of_{name}.root")
        shutil.copy(files / "train" / f"{name}.root", copies[-1])
    _, _, err = jettag("eval", runs / "finetuned", "--data", *copies)
    assert "finetuned was trained on jets of" in err
    assert "the backbone of finetuned was trained on jets of" in err
    _, _, err = jettag("eval", runs / "finetuned", "--data", files / "test" / "QCD.root", files / "test" / "Tbqq.root")
    assert "trained on" not in err


def test_jets_of_one_event_stay_on_one_side_with_the_shipped_cards(tmp_path):
    from jettag.config.recipe import load_recipe
    from jettag.runs.common import Sources, Told, open_tables
    from jettag.runs.settling import settled_with

    from ..data.make import make_columns
    from .conftest import write_root

    columns = make_columns(200, seed=4)
    columns["event_number"] = np.repeat(np.arange(100), 2)
    path = write_root(tmp_path / "pairs.root", columns)
    for card in ("jetclass", "generated"):
        sources = Sources(train=[str(path)])
        recipe = settled_with(load_recipe("mpm", PretrainRecipe, card=card), sources, Told())
        jets = open_tables(recipe, sources, classes=None, told=Told())
        assert not set(jets.table.jet["event_number"]) & set(jets.val_table.jet["event_number"])


def test_a_refused_run_leaves_no_trace(jettag, files, tmp_path):
    code, _, _ = jettag("finetune", "--data", tmp_path / "nowhere.root", "--out", tmp_path / "run", *SMALL)
    assert code == 4
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("asked", [2**56, None])  # of the CPU's own allocator; as an accelerator says it
def test_memory_that_runs_out_in_training_is_one_line_and_seven(jettag, files, tmp_path, monkeypatch, asked):
    def step(*_):
        if asked is None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation")
        torch.empty(asked, dtype=torch.uint8)

    monkeypatch.setattr("jettag.training.trainer.Trainer.update", step)
    words = ["pretrain", "mpm", "--data", files / "train" / "QCD.root", "--out", tmp_path / "run", "--max-steps", 2]
    code, _, err = jettag(*words, *SMALL, *SMALL_DECODER)
    assert code == 7
    assert err.splitlines()[-1].startswith("error: out of memory in training; set training.accumulate=2")
    assert err.count("error") == 1
