"""`torchrun -m jettag_cli pretrain ...` is `jettag pretrain ...`."""

import json

import pytest

from ..training.test_distributed import records, torchrun
from .conftest import SMALL, SMALL_DECODER


def test_the_command_under_torchrun_is_the_command(files, tmp_path, call_json):
    """From files to run directory: one JSON object, one run, the losses of one process."""
    quiet = SMALL[1][:-1] + ", dropout: 0.0, attention_dropout: 0.0}"
    words = [
        *("pretrain", "mpm", "--data", str(files / "train" / "*.root"), "--max-steps", "5"),
        *("--set", quiet, "--set", "data.batch_size=32", *SMALL_DECODER, "--set", "training.log_every=1"),
    ]
    _, out, _ = torchrun("-m", "jettag_cli", *words, "--out", tmp_path / "two", "--json")
    facts = json.loads(out)
    assert facts["processes"] == 2
    alone = call_json(*words, "--out", tmp_path / "one")
    for key in ("inputs", "n_train", "steps", "parameters", "finished"):
        assert facts[key] == alone[key], key
    for a, b in zip(records(tmp_path / "one"), records(tmp_path / "two"), strict=True):
        for name in a.keys() & {"loss", "val_loss"}:
            # Single precision; tests/training/test_distributed.py holds 1e-6 in double.
            assert b[name] == pytest.approx(a[name], abs=1e-5)


def test_from_shards_too_and_a_run_that_was_ended_goes_on(files, tmp_path, call_json):
    """`STOP` ends the run after its first step; the same command with `--resume` takes the others from the shards."""
    shards, run = tmp_path / "shards", tmp_path / "two"
    prepared = ["--features", "jetclass_kin", "--split", "70:30:0", "--shard-jets", 100, "--workers", 1]
    call_json("data", "prepare", "generated", files / "train" / "*.root", "--out", shards, *prepared)
    quiet = SMALL[1][:-1] + ", dropout: 0.0, attention_dropout: 0.0}"
    words = ["pretrain", "mpm", "--data", str(shards), "--max-steps", "12", "--resume", *SMALL_DECODER]
    for setting in (quiet, "data.batch_size=32", "data.features=jetclass_kin", "training.log_every=1"):
        words += ["--set", setting]
    run.mkdir()
    (run / "STOP").touch()
    steps = []
    for _ in range(2):
        _, out, _ = torchrun("-m", "jettag_cli", *words, "--out", run, "--json")
        steps.append(json.loads(out)["steps"])
    assert steps == [1, 12]
    call_json(*words, "--out", tmp_path / "one")
    one, two = ({r["step"]: r["loss"] for r in records(tmp_path / name) if "loss" in r} for name in ("one", "two"))
    assert two == pytest.approx(one, abs=1e-5)
    assert len(one) == 12
