"""Which device trains: the one that was asked for, if it gives right gradients and processes can meet there."""

import contextlib

import pytest
import torch

from jettag.errors import ResourceError, UsageError
from jettag.training import devices
from jettag.training.devices import choose_device, has_fast_bf16

CPU, MPS = torch.device("cpu"), torch.device("mps")


@pytest.fixture
def asked(monkeypatch):
    """Devices on which something was allocated; on the accelerators of which tests tell there is nothing in truth."""
    found = []
    monkeypatch.setattr(devices.torch, "zeros", lambda *_, device: found.append(device))
    return found


@pytest.fixture
def apple(asked, monkeypatch):
    """As on a Mac."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


@pytest.fixture
def gpus(asked, monkeypatch):
    """As on a machine with two GPUs; gives which were made the current one."""
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    yield current
    torch.backends.cuda.enable_cudnn_sdp(True)


def beside_others(monkeypatch, local_rank, size=4):
    for name, value in {"RANK": local_rank + 2, "LOCAL_RANK": local_rank, "WORLD_SIZE": size}.items():
        monkeypatch.setenv(name, str(value))
    for name in ("LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def test_auto_takes_what_is_there(apple, monkeypatch):
    assert choose_device("auto") == MPS
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == CPU


def test_a_gpu_is_taken_by_name_or_by_auto(gpus, asked):
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert gpus == [torch.device("cuda:1")]


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_takes_its_own_gpu_and_touches_no_other(gpus, asked, monkeypatch, name):
    beside_others(monkeypatch, 1)
    assert choose_device(name) == torch.device("cuda:1")
    assert gpus == asked == [torch.device("cuda:1")]
    assert choose_device("cuda:1") == torch.device("cuda:1")  # as chosen before


def test_a_gpu_for_several_processes_or_none_for_one_is_refused_at_once(gpus, asked, monkeypatch):
    beside_others(monkeypatch, 1)
    with pytest.raises(UsageError, match="--device cuda:0 for 4 processes; say cuda"):
        choose_device("cuda:0")
    beside_others(monkeypatch, 2)
    with pytest.raises(ResourceError, match=r"no GPU for process 2 of this machine, which sees 2; .*--nproc-per-node"):
        choose_device("cuda")
    beside_others(monkeypatch, 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert choose_device("cuda").index == 1  # of a launcher that may show each process others
    asked.clear(), gpus.clear()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(ResourceError, match="no GPU for process 2 of this machine, which sees 2; "):
        choose_device("cuda")
    assert not asked


def test_bf16_is_for_those_that_have_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert not has_fast_bf16(torch.device("cuda"))
    assert has_fast_bf16(MPS)


def test_a_pytorch_whose_gradients_are_wrong_on_mps_does_not_train_there(apple, monkeypatch):
    monkeypatch.setattr(devices, "MPS_IS_RIGHT", False)
    assert choose_device("auto") == CPU
    with pytest.raises(ResourceError, match=r"wrong gradients on mps.*2\.14 or later, or --device cpu"):
        choose_device("mps")


def test_processes_do_not_meet_on_mps(apple, monkeypatch):
    beside_others(monkeypatch, 1, size=2)
    assert choose_device("auto") == choose_device("cpu") == CPU
    with pytest.raises(ResourceError, match="2 processes cannot train together on mps; use one process"):
        choose_device("mps")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:0"])
def test_a_device_nobody_knows_is_refused(name):
    with pytest.raises(UsageError, match="say auto, cpu, cuda or mps"):
        choose_device(name)
