"""Which device trains: the one that was asked for, if it gives right gradients and processes can meet there."""

import pytest
import torch

from jettag.errors import ResourceError, UsageError
from jettag.training import distributed
from jettag.training.distributed import ALONE, World, choose_device

CPU, MPS = torch.device("cpu"), torch.device("mps")


@pytest.fixture
def apple(monkeypatch):
    """As on a Mac."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


def test_auto_takes_what_is_there(apple, monkeypatch):
    assert choose_device("auto") == MPS
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")


def test_a_pytorch_whose_gradients_are_wrong_on_mps_does_not_train_there(apple, monkeypatch):
    monkeypatch.setattr(distributed, "MPS_IS_RIGHT", False)
    assert choose_device("auto") == CPU
    with pytest.raises(ResourceError, match=r"wrong gradients on mps.*2\.14 or later, or --device cpu"):
        choose_device("mps")


def test_processes_do_not_meet_on_mps():
    assert ALONE.device(MPS) == MPS
    assert World(1, 2).device(CPU) == CPU
    with pytest.raises(ResourceError, match="2 processes cannot train together on mps; use one process"):
        World(1, 2).device(MPS)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:0"])
def test_a_device_nobody_knows_is_refused(name):
    with pytest.raises(UsageError, match="say auto, cpu, cuda or mps"):
        choose_device(name)
