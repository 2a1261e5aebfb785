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
