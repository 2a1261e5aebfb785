"""`torchrun -m jettag_cli pretrain ...` is `jettag pretrain ...`."""

import contextlib
import json

import pytest

from jettag.runs import finetuning, holding, pretraining
from jettag.training.distributed import World

from ..training.test_distributed import records, torchrun
from .conftest import SMALL, SMALL_DECODER

EXACT = 1e-9  # of a loss in double precision; of single precision test_distributed asks
QUIET = SMALL[1][:-1] + ", dropout: 0.0, attention_dropout: 0.0}"


def test_the_command_under_torchrun_is_the_command(files, tmp_path, call_json):
    """From files to run directory: one JSON object, one run, the losses of one process."""
    words = ["pretrain", "mpm", "--data", str(files / "train" / "*.root"), "--max-steps", "20", *SMALL_DECODER]
    for setting in (QUIET, "data.batch_size=32", "training.log_every=1", "training.precision=fp64"):
        words += ["--set", setting]
    _, out, _ = torchrun("-m", "jettag_cli", *words, "--out", tmp_path / "two", "--json")
    facts = json.loads(out)
    assert facts["processes"] == 2
    alone = call_json(*words, "--out", tmp_path / "one")
    for key in ("inputs", "n_train", "steps", "parameters", "finished"):
        assert facts[key] == alone[key], key
    for a, b in zip(records(tmp_path / "one"), records(tmp_path / "two"), strict=True):
        for name in a.keys() & {"loss", "val_loss"}:
            assert b[name] == pytest.approx(a[name], abs=EXACT)


def test_from_shards_too_and_a_run_that_was_ended_goes_on(files, tmp_path, call_json):
    """`STOP` ends the run after its first step; the same command with `--resume` takes the others from the shards.

    Batches are cut in pieces, each normalised by itself, and their jets compared beyond piece and process.
    """
    shards, run = tmp_path / "shards", tmp_path / "two"
    prepared = ["--features", "jetclass_kin", "--split", "70:30:0", "--shard-jets", 100, "--workers", 1]
    call_json("data", "prepare", "generated", files / "train" / "*.root", "--out", shards, *prepared)
    words = ["pretrain", "jetclr", "--data", str(shards), "--max-steps", "20", "--resume", "--set", QUIET]
    training = ("training.log_every=1", "training.precision=fp64", "training.accumulate=2")
    for setting in ("data.batch_size=30", "data.features=jetclass_kin", *training):
        words += ["--set", setting]
    run.mkdir()
    (run / "STOP").touch()
    steps = []
    for _ in range(2):
        _, out, _ = torchrun("-m", "jettag_cli", *words, "--out", run, "--json")
        steps.append(json.loads(out)["steps"])
    assert steps == [1, 20]
    call_json(*words, "--out", tmp_path / "one")
    one, two = ({r["step"]: r["loss"] for r in records(tmp_path / name) if "loss" in r} for name in ("one", "two"))
    assert two == pytest.approx(one, abs=EXACT)
    assert len(one) == 20


@pytest.mark.parametrize(("words", "module"), [("pretrain mpm", pretraining), ("finetune --task top", finetuning)])
def test_what_cannot_be_sharded_is_told_before_jets_are_read(words, module, files, jettag, tmp_path, monkeypatch):
    class Two(World):
        def first(self, job):
            return job()

    def read(*_, **__):
        raise AssertionError("read")

    monkeypatch.setattr(holding, "join", lambda: contextlib.nullcontext(Two(0, 2)))
    monkeypatch.setattr(module, "open_tables", read)
    sharded = ["--set", "training.parallel=fsdp", "--set", "training.optimizer=lion"]
    data = ["--data", files / "train" / "*.root", "--card", "jetclass"]
    code, _, err = jettag(*words.split(), *data, *sharded, "--out", tmp_path / "run")
    assert code == 3
    assert "optimizer lion cannot be sharded" in err.splitlines()[-1]
    assert not (tmp_path / "run" / "recipe.yaml").exists()
