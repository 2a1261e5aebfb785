"""Flavour tagging: resumed equals uninterrupted, to the bit; and what is loaded is what was saved."""

import os
import signal

import pytest
import torch

from jettag.errors import Stopped
from jettag.training import Limits, load_last_good, train

from ..objectives.test_flavour import make_model, truth_table
from .test_loop import losses, make_trainer


def run_to(trainer, folder, steps, log=lambda _: None):
    folder.mkdir(exist_ok=True)
    return train(trainer, truth_table(20, seed=9), Limits(steps), folder, seed=0, log=log, note=lambda _: None)


def make(table):
    return make_trainer(table, model=make_model(table, combine="uncertainty"))


def test_resumed_equals_uninterrupted(tmp_path):
    table = truth_table(100)
    whole = make(table)
    run_to(whole, tmp_path / "whole", 12)
    calls = iter(range(100))

    def interrupt(_record):
        if next(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        run_to(make(table), tmp_path / "parts", 12, log=interrupt)
    second = make(table)
    second.restore(load_last_good(tmp_path / "parts", print))
    assert 0 < second.step < 12
    run_to(second, tmp_path / "parts", 12)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[key]), key
    assert any(key.startswith("log_variance") for key in second.model.state_dict())
