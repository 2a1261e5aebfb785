"""The random state of a device is kept and put back; MPS stands for any accelerator, by two functions of its module."""

import pytest
import torch

from jettag.models.randomness import device_state, forked, set_device_state
from jettag.training import load_last_good

from ..conftest import make_table
from ..training.test_loop import RECIPE, make_trainer


@pytest.fixture
def drawn(monkeypatch):
    """How often the stand-in for an accelerator has drawn."""
    state = torch.zeros(1, dtype=torch.uint8)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda device: state.clone())
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda new, device: state.copy_(new))
    return state


def test_what_is_drawn_inside_is_drawn_again(drawn):
    with forked(torch.device("mps")):
        inside = torch.rand(3)
        drawn += 5
    assert torch.equal(torch.rand(3), inside)
    assert drawn == 0
    with forked(torch.device("cpu")):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), inside)


def test_a_checkpoint_has_the_state_of_the_device(drawn, tmp_path):
    trainer = make_trainer(make_table(), RECIPE)
    trainer.device = torch.device("mps")  # of what follows only the random state depends on it
    drawn += 7
    trainer.save(tmp_path, is_best=False)
    drawn += 7
    trainer.restore(load_last_good(tmp_path, pytest.fail))
    assert drawn == 7


def test_the_cpu_has_no_other_state(drawn):
    assert device_state(torch.device("cpu")) is None
    set_device_state(torch.device("mps"), torch.full((1,), 3, dtype=torch.uint8))
    assert device_state(torch.device("mps")) == 3
