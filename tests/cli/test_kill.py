"""A training from shards that is killed, at a step or within a write, ends as if nothing had been."""

import json
import multiprocessing
import os
import random
import signal

import pytest
import torch
from jettag_cli.main import app

from jettag.runs import common
from jettag.training import load_last_good
from jettag.training.trainer import Trainer

from ..training.test_distributed import records
from ..training.test_kill import fatal
from .conftest import SMALL, SMALL_DECODER

FORK = multiprocessing.get_context("fork")  # a process of its own that need not import torch again
STEPS = 16
SETTINGS = ("data.max_tokens=150", "data.max_constituents=12", "data.prefetch=2", "data.features=jetclass_kin")
OFTEN = ("training.log_every=1", "training.val_every=3", "training.accumulate=2")


@pytest.fixture(scope="module")
def words(files, call_json, tmp_path_factory):
    """The command of a training with dropout, from 315 jets on disk in four shards: several epochs, a token budget."""
    shards = tmp_path_factory.mktemp("kill") / "shards"
    common = ["--features", "jetclass_kin", "--max-constituents", 12, "--split", "70:30:0", "--shard-jets", 80]
    call_json("data", "prepare", "generated", files / "train" / "*.root", "--out", shards, *common, "--workers", 1)
    settings = [word for setting in (*SETTINGS, *OFTEN) for word in ("--set", setting)]
    command = ["pretrain", "mpm", "--data", str(shards), *SMALL, *SMALL_DECODER, *settings]
    return [*command, "--max-steps", str(STEPS), "--resume"]


def carry_out(words, prepare):
    torch.set_num_threads(1)
    prepare()
    app(words)


def start(words, run, prepare=lambda: None):
    """Run the command in a process that does ``prepare`` first; its exit code."""
    process = FORK.Process(target=carry_out, args=([*words, "--out", str(run)], prepare))
    process.start()
    process.join(60)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def at_step(number, what):
    """Send the process a signal in the middle of its ``number``-th step."""
    gradients = Trainer.gradients

    def instead(trainer, *batch):
        found = gradients(trainer, *batch)
        if trainer.step == number:
            os.kill(os.getpid(), what)
        return found

    Trainer.gradients = instead


@pytest.fixture(scope="module")
def whole(words, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    assert start(words, run) == 0
    assert json.loads((run / "run.json").read_text())["steps"] == STEPS
    return run


def before(module, name, what):
    """Send the process a signal before ``module`` calls a function of its own or another's."""
    function = getattr(module, name)

    def instead(*args, **kwargs):
        os.kill(os.getpid(), what)
        return function(*args, **kwargs)

    setattr(module, name, instead)


def assert_same(run, whole):
    one, other = (load_last_good(folder, pytest.fail) for folder in (run, whole))
    for part in ("model", "ema", "optimizer"):
        mine, theirs = getattr(one, part), getattr(other, part)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine), part
    assert records(run) == records(whole)


def test_killed_at_random_steps_and_within_writes(words, whole, tmp_path):
    dice = random.Random(3)
    run = tmp_path / "run"
    for step in sorted(dice.sample(range(1, STEPS), 3)):
        assert start(words, run, lambda at=step: at_step(at, signal.SIGKILL)) == -signal.SIGKILL
        assert start(words, run, lambda: fatal(dice.randrange(1, 40))) == -signal.SIGKILL
    assert start(words, run) == 0
    assert_same(run, whole)


READING, BEGUN = "_read", "fit"  # before a run is there, and between its facts and its first step


@pytest.mark.parametrize(
    ("place", "number", "code", "again"),
    [
        (READING, signal.SIGINT, 130, None),
        (READING, signal.SIGTERM, 143, None),
        (READING, signal.SIGUSR1, 75, "--resume"),
        (BEGUN, signal.SIGINT, 130, None),
        (BEGUN, signal.SIGTERM, 143, ""),
        (BEGUN, signal.SIGUSR1, 75, "--resume"),
    ],
)
def test_a_signal_before_the_first_step_leaves_nothing_in_the_way(
    words, whole, tmp_path, capfd, place, number, code, again
):
    run = tmp_path / "run"
    assert start(words, run, lambda: before(common, place, number)) == code
    assert "nothing is trained yet" in capfd.readouterr().err.splitlines()[-1]
    assert run.exists() == (place == BEGUN)
    if place == BEGUN:
        assert json.loads((run / "run.json").read_text())["stopped"] == code
    if again is not None:
        assert start(words if again else words[:-1], run) == 0
        assert_same(run, whole)


def test_sigterm_while_batches_are_prepared_saves_and_ends(words, whole, tmp_path):
    run = tmp_path / "run"
    assert start(words, run, lambda: at_step(7, signal.SIGTERM)) == 143
    assert load_last_good(run, pytest.fail).step == 8
    assert start(words, run) == 0
    assert_same(run, whole)
