"""Two processes under torchrun are one: the same losses, the same validation, one writer, one end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jettag.data.card import load_card
from jettag.data.prepare import Preparation, prepare
from jettag.data.read import expand_inputs
from jettag.data.root import write_tree
from jettag.training import load_last_good
from jettag.training.distributed import ALONE

from ..data.make import make_columns
from . import spread

ROOT = Path(__file__).resolve().parents[2]


def torchrun(*words, check=True, **environment):
    """Two processes on the CPU, or on what the environment says; returns (exit code, everything they said)."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"} | environment
    environment["PYTHONPATH"] = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT)]).strip(os.pathsep)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0 or not check, done.stderr
    return done.returncode, done.stdout, done.stderr


def spread_run(*calls, check=True):
    """Trainings of `spread`, one after the other in the same two processes."""
    return torchrun("-m", "tests.training.spread", json.dumps(calls), check=check)


def records(folder, *, clock=False):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return lines if clock else [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A prepared directory: 160 jets or so to train on in four shards, and 70 to validate with."""
    folder = tmp_path_factory.mktemp("prepared")
    for seed, name in enumerate(("QCD", "Tbqq")):
        write_tree(folder / f"{name}.root", "tree", [make_columns(115, seed=seed, class_name=name)], metadata={})
    chosen = Preparation(features="jetclass_kin", shard_jets=45, fractions=(0.7, 0.3, 0))
    prepare(expand_inputs([folder / "*.root"]), load_card("generated"), folder / "shards", chosen)
    return str(folder / "shards")


@pytest.fixture(scope="module")
def two(tmp_path_factory, shards):
    """How the trainings were called that two processes brought to an end, one after the other as they start slowly."""
    losses = [
        {"objective": name, "double": double, **more}
        for name, double, more in (
            ("masked", True, {}),
            ("classification", True, {}),
            ("classification", True, {"max_tokens": 60}),  # of jets of up to 12: five at least
            ("tokenizer", True, {}),
            ("masked", True, {"shards": shards}),
            ("masked", True, {"shards": shards, "accumulate": 3}),  # pieces have statistics of their own
            ("classification", False, {}),
            *((name, False, {"shards": shards}) for name in ("masked", "contrastive")),
            # Two pieces a process, four in all, and one of one process: jets are compared beyond piece and process.
            ("contrastive", True, {"batch_statistics": False, "accumulate": 2}),
        )
    ]
    calls = {
        "phases": {"objective": "lpft"},
        "whole": {"objective": "masked", "dropout": 0.2, "steps": 12, "accumulate": 2, "shards": shards},
        **{f"losses-{number}": call for number, call in enumerate(losses)},
        "compiled": losses[1] | {"compile": True},
    }
    folder = tmp_path_factory.mktemp("two")
    calls = {name: call | {"folder": str(folder / name)} for name, call in calls.items()}
    spread_run(*calls.values())
    return calls


def test_two_processes_have_the_losses_of_one(tmp_path, two):
    """Without dropout, which cannot be the same; the order, the masks, the weights and the batch statistics are.

    In single precision, too, but for validations, whose batch statistics are those of steps before them.
    """
    for name in (name for name in two if name.startswith("losses")):
        call, folder = two[name], tmp_path / name
        pieces = call.get("accumulate", 1) if call.get("batch_statistics", True) else 1
        spread.run(**{**call, "folder": folder, "accumulate": pieces}, world=ALONE)
        one, other = records(folder), records(Path(call["folder"]))
        assert [line["step"] for line in one] == [line["step"] for line in other]
        assert len(one) == 22  # 20 steps, two validations: written once, not once a process
        tolerance = 1e-9 if call["double"] else 1e-6
        for a, b in zip(one, other, strict=True):
            assert a.keys() == b.keys()
            for key in a.keys() & {"loss", "val_loss" if call["double"] else "loss"}:
                assert b[key] == pytest.approx(a[key], abs=tolerance), (call["objective"], a["step"])
        before = [json.loads((f / "before.json").read_text()) for f in (folder, Path(call["folder"]))]
        for key, value in before[0].items():  # the same weights: only the order of a sum differs
            assert before[1][key] == pytest.approx(value, rel=1e-12 if call["double"] else 1e-6), key
    compiled, plain = (records(Path(two[name]["folder"])) for name in ("compiled", "losses-1"))
    assert [line.get("loss") for line in compiled] == pytest.approx([line.get("loss") for line in plain], abs=1e-6)


def test_two_processes_embed_and_set_a_backbone_free_as_one_does(tmp_path, two):
    """They share the work of embedding, and each learns at the change of phase which gradients it now exchanges."""
    spread.run(folder=tmp_path / "one", objective="lpft", world=ALONE)
    one, other = records(tmp_path / "one"), records(Path(two["phases"]["folder"]))
    assert len(one) == len(other) == 22
    for a, b in zip(one, other, strict=True):
        for name in a.keys() & {"loss", "val_loss"}:
            assert b[name] == pytest.approx(a[name], abs=2e-5), a["step"]


def test_a_signal_to_any_process_stops_all_and_the_run_goes_on_to_the_bit(tmp_path, two):
    """From shards, with dropout: every process's random state is in the checkpoint."""
    call = two["whole"] | {"folder": str(tmp_path / "parts")}
    code, _, err = spread_run({**call, "term_at": [1, 7]}, check=False)
    assert code != 0
    # The signal comes while step 7 is logged; both processes agree on it after the next one.
    assert err.count("stopped at step 8 of 12, saved") == 2, err
    spread_run(call)
    assert records(tmp_path / "parts") == records(Path(two["whole"]["folder"]))


def test_a_process_that_fails_ends_the_others_and_tells_why(tmp_path):
    code, _, err = spread_run(
        {"folder": str(tmp_path / "run"), "objective": "masked", "steps": 10**6, "fail_at": [1, 5]}, check=False
    )
    assert code != 0
    assert "the disk of process 1 is gone" in err
    assert not list((tmp_path / "run").glob("checkpoints/.*"))


def test_one_process_s_jet_that_is_not_finite_stops_every_process_before_the_step(tmp_path):
    """The second of the batch, so the second process's; the last checkpoint is the one before.

    Without a look the weights stay as they are until the validation, whole or sharded.
    """
    blind = {"looks": False, "log_every": 100}
    later = {"seen": 0, "whole": 3, "sharded": 3}
    changes = {"seen": {}, "whole": blind, "sharded": blind | {"parallel": "fsdp"}}
    common = {"objective": "classification", "val_every": 4, "nan_at": 5}
    code, _, err = spread_run(
        *({"folder": str(tmp_path / name), **common, **change} for name, change in changes.items()), check=False
    )
    assert code != 0
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(told) == 2 * len(changes), err
    for place, name in enumerate(changes):
        for line in told[2 * place : 2 * place + 2]:
            assert "error: loss nan with gradient norm nan at step 5 (jets that are not finite themselves: row" in line
            assert f" {later[name]} steps later, weights kept" in line
        folder = tmp_path / name
        assert len(json.loads((folder / "bad_batch.json").read_text())["not_finite_jets"]) == 1
        last = load_last_good(folder, pytest.fail)
        assert last.step == 4
        assert all(value.isfinite().all() for value in last.model.values())
