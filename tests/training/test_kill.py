"""SIGKILL at any moment, also within a write: a whole checkpoint is left, and the run ends as if nothing had been."""

import contextlib
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from jettag.training import checkpoint as checkpoint_module
from jettag.training import load_last_good
from jettag.training.checkpoint import has_checkpoint

from ..conftest import make_table
from .test_loop import RECIPE, losses, make_trainer, run_to

FORK = multiprocessing.get_context("fork")  # the killed process needs no start-up of its own
STEPS = 30
OFTEN = RECIPE.model_copy(update={"val_every": 1, "log_every": 1, "keep_checkpoints": 2})


def go_on(folder, steps=STEPS):
    """Start the run, or go on with it, as `--resume` does."""
    torch.manual_seed(0)
    trainer = make_trainer(make_table(), OFTEN)
    if has_checkpoint(folder):
        trainer.restore(load_last_good(folder, lambda _: None))
    run_to(trainer, folder, steps)
    return trainer


def assert_same(folder, whole):
    last = load_last_good(folder, pytest.fail)
    assert last.step == STEPS
    for name, value in load_last_good(whole, pytest.fail).model.items():
        assert torch.equal(last.model[name], value), name
    assert losses(folder) == losses(whole)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same run, never killed, and the seconds it takes."""
    folder = tmp_path_factory.mktemp("whole")
    begin = time.monotonic()
    go_on(folder)
    return folder, time.monotonic() - begin


def test_killed_at_random_times_a_run_ends_as_if_it_never_was(tmp_path, whole):
    folder, seconds = whole
    dice = random.Random(5)
    kills = 0
    for _ in range(60):
        process = FORK.Process(target=go_on, args=(tmp_path / "run",))
        process.start()
        process.join(seconds * dice.uniform(0.02, 0.25))
        if process.exitcode is not None:
            assert process.exitcode == 0
            break
        process.kill()
        process.join()
        kills += 1
        if has_checkpoint(tmp_path / "run"):
            load_last_good(tmp_path / "run", pytest.fail)  # the last one itself is whole: no warning
    go_on(tmp_path / "run")
    assert kills >= 3
    assert_same(tmp_path / "run", folder)


def fatal(call: int):
    """Replace every function that touches the disk in a save by one that kills the process at its ``call``-th use."""
    calls = iter(range(1, 10**6))

    def lethal(function):
        def instead(*args, **kwargs):
            if next(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return instead

    for name in ("save_file", "sync", "write_atomically"):
        setattr(checkpoint_module, name, lethal(getattr(checkpoint_module, name)))
    checkpoint_module.shutil.rmtree = lethal(checkpoint_module.shutil.rmtree)
    Path.replace = lethal(Path.replace)


def die_in_save(folder, call):
    fatal(call)
    go_on(folder)


@pytest.mark.parametrize("call", range(40, 62))
def test_killed_at_every_point_of_a_write_the_last_checkpoint_is_whole(tmp_path, call):
    """One save makes about twenty calls; these are the third and its neighbours."""
    process = FORK.Process(target=die_in_save, args=(tmp_path / "run", call))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert load_last_good(tmp_path / "run", pytest.fail).step >= 1


def test_going_on_after_a_kill_within_a_write_is_exact(tmp_path, whole):
    for call in (25, 33, 47):
        with contextlib.suppress(ValueError):
            process = FORK.Process(target=die_in_save, args=(tmp_path / "run", call))
            process.start()
            process.join(60)
            assert process.exitcode == -signal.SIGKILL
    go_on(tmp_path / "run")
    assert_same(tmp_path / "run", whole[0])
