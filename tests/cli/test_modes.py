"""jettag finetune --mode: every mode trains, says what it trains, and its run is judged, asked and embedded."""

import json

import pyarrow.parquet as pq
import pytest

from jettag.config.adaptation import MODES
from jettag.training import load_checkpoint, load_model_state, resolve_checkpoint

from .conftest import SMALL, SMALL_DECODER


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_trains_and_its_run_can_be_used(mode, files, jettag, call_json, runs, tmp_path):
    run = tmp_path / mode
    train = sorted((files / "train").glob("*.root"))
    code, out, err = jettag(
        *("finetune", "--from", runs / "pretrain", "--mode", mode, "--data", *train, "--out", run, "--max-steps", 12),
        *("--set", "training.val_every=6", "--set", "training.learning_rate=0.01", *SMALL, "--json"),
    )
    assert code == 0, err
    facts = json.loads(out)
    assert facts["mode"] == mode
    assert f"mode {mode}: trainable {facts['trainable_parameters']:,} of" in err
    assert facts["frozen"] in (run / "README.md").read_text()
    before, _, _ = load_model_state(runs / "pretrain")
    after = load_checkpoint(resolve_checkpoint(run, prefer="last")).model
    state = {k: v for k, v in before.items() if k.startswith("backbone.")}
    same = [name for name, value in state.items() if name in after and after[name].equal(value)]
    if mode in ("head", "probe", "attentive"):
        assert len(same) == len(state)
    else:
        assert len(same) < len(state)
    ratio = facts["trainable_parameters"] / facts["parameters"]
    assert (ratio == 1) == (mode in ("full", "lpft", "staged", "layerwise"))
    test = files / "test" / "*.root"
    found = call_json("eval", run, "--data", test)
    assert found["rows"][0]["auc"] > 0.5
    assert found["rows"][0]["parameters"] == facts["parameters"]
    assert call_json("predict", run, "--data", test, "--out", tmp_path / "scores.root")["jets"] == 450
    assert call_json("embed", run, "--data", test, "--out", tmp_path / "emb.parquet")["jets"] == 450
    code, _, err = jettag(
        *("finetune", "--from", run, "--mode", "probe", "--data", *train, "--out", tmp_path / "next"),
        *("--max-steps", 2, *SMALL),
    )
    assert code == 0, err


def test_a_probe_reads_as_many_blocks_as_it_is_told(files, jettag, call_json, runs, tmp_path):
    train = sorted((files / "train").glob("*.root"))
    layers = ("--set", "backbone.settings.num_layers=3")
    start = ("pretrain", "mpm", "--data", *train, *SMALL, *SMALL_DECODER, *layers, "--max-steps", 1, "--out")
    assert jettag(*start, tmp_path / "pre")[0] == 0
    probe = ("finetune", "--mode", "probe", "--from", tmp_path / "pre", "--data", *train, *SMALL, "--max-steps", 2)
    code, _, err = jettag(*probe, "--set", "adaptation.summary_blocks=3", "--out", tmp_path / "run")
    assert code == 0, err
    test = files / "test" / "*.root"
    assert call_json("eval", tmp_path / "run", "--data", test)["rows"][0]["auc"] > 0
    assert call_json("embed", tmp_path / "run", "--data", test, "--out", tmp_path / "emb.parquet")["jets"] == 450
    assert len(pq.read_table(tmp_path / "emb.parquet")["embedding"][0]) == 3 * 16
    assert call_json("export", tmp_path / "run", "--format", "torch", "--out", tmp_path / "run.pt2")
    code, _, err = jettag(*probe, "--set", "adaptation.summary_blocks=4", "--out", tmp_path / "other")
    assert code == 3
    assert err.splitlines()[-1] == "error: summary_blocks 4 of 3 blocks in backbone"
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("mode", sorted(set(MODES) - {"full"}))
def test_a_mode_that_adapts_wants_something_to_adapt(mode, files, jettag, tmp_path):
    code, _, err = jettag("finetune", "--mode", mode, "--data", files / "train" / "*.root", "--out", tmp_path / "run")
    assert code == 3
    assert "--from" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("word", "said"), [("prob", "did you mean probe"), ("xyz", "known: attentive, full")])
def test_an_unknown_mode_is_answered_with_the_known_ones(word, said, files, jettag, tmp_path):
    code, _, err = jettag("finetune", "--mode", word, "--data", files / "train" / "*.root", "--out", tmp_path / "run")
    assert code == 2
    assert said in err
    assert all(mode in err for mode in MODES)


def test_a_linear_probe_has_no_hidden_layers(files, jettag, runs, tmp_path):
    code, _, err = jettag(
        *("finetune", "--from", runs / "pretrain", "--mode", "probe", "--data", files / "train" / "*.root"),
        *("--out", tmp_path / "run", "--set", "head_hidden=[8]"),
    )
    assert code == 3
    assert "head_hidden" in err


def test_other_features_are_refused_by_name_or_adapted_on_request(files, jettag, call_json, runs, tmp_path):
    train = sorted((files / "train").glob("*.root"))
    kin = ["--set", "data.features=jetclass_kin"]
    call = ["finetune", "--mode", "lora", "--data", *train, "--max-steps", 3, *SMALL]
    code, _, err = jettag(*call, "--from", runs / "pretrain", "--out", tmp_path / "kin", *kin)
    assert code == 5
    assert "lack part_charge, part_isChargedHadron" in err
    assert "--adapt-features" in err
    code, _, err = jettag(*call, "--from", runs / "pretrain", "--out", tmp_path / "kin", *kin, "--adapt-features")
    assert code == 0, err
    assert "lack part_charge" in err
    call_json("eval", tmp_path / "kin", "--data", files / "test" / "*.root")
    code, _, err = jettag(*call, "--from", tmp_path / "kin", "--out", tmp_path / "full", "--adapt-features")
    assert code == 0, err
    assert "add part_charge" in err
    call_json("eval", tmp_path / "full", "--data", files / "test" / "*.root")
