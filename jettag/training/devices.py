"""What computes: the device that is asked for, and what it is good at."""

import os
import re

import torch

from jettag.errors import ResourceError, UsageError
from jettag.training.distributed import processes

__all__ = ["choose_device", "has_fast_bf16", "in_precision"]

MPS_IS_RIGHT = torch.__version__ >= "2.14"  # before, of layer normalisation on a frozen network, and fp16 overflows


def choose_device(name: str) -> torch.device:
    """``auto`` takes CUDA, then MPS if this PyTorch is right there, then the CPU; of several GPUs each process its own.

    On CUDA the device becomes the current one, and attention does without cuDNN from then on.

    Raises:
        UsageError: no device has this name, or several processes were given one.
        ResourceError: the device asked for is not there, is not for several processes, or this PyTorch has wrong
            gradients on it.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise UsageError(f"no device is called {name!r}", where="--device", do="say auto, cpu, cuda or mps")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if _is_mps_for_us() else "cpu"
    if name == "mps" and not MPS_IS_RIGHT:
        raise ResourceError(
            f"PyTorch {torch.__version__} has wrong gradients on mps (pytorch #183825, #186360)",
            do="use PyTorch 2.14 or later, or --device cpu",
        )
    if name == "mps" and processes() > 1:
        raise ResourceError(
            f"{processes()} processes cannot train together on mps", do="use one process, or --device cpu"
        )
    device = torch.device(name)
    if device.type == "cuda" and torch.cuda.is_available():
        device = _gpu(name)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]  # what follows is pages of backends
        raise ResourceError(f"device {name!r} cannot be used ({reason})", do="use --device auto or cpu") from None
    return device


def _is_mps_for_us() -> bool:
    return torch.backends.mps.is_available() and MPS_IS_RIGHT and processes() == 1


def _gpu(name: str) -> torch.device:
    """The GPU of this process, where what does not name one happens too, so that it takes nothing of another's.

    Raises:
        UsageError: one GPU for several processes.
        ResourceError: fewer GPUs than processes on this machine.
    """
    device = torch.device(name)
    if processes() > 1:
        own, seen = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        here = own + 1
        if "TORCHELASTIC_RUN_ID" in os.environ:  # all that torchrun starts see the same: all refuse, and none waits
            here = max(here, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        if name not in ("cuda", f"cuda:{own}"):
            raise UsageError(f"--device {name} for {processes()} processes", do="say cuda: each takes its own")
        if here > seen:
            raise ResourceError(
                f"no GPU for process {seen} of this machine, which sees {seen}",
                do="start as many processes as there are GPUs (--nproc-per-node), or use --device cpu",
            )
        device = torch.device("cuda", own)
    if str(device) != "cuda" and device.index < torch.cuda.device_count():
        torch.cuda.set_device(device)
    # On recent GPUs bf16 attention would take cuDNN, which makes a plan for each shape of a batch (pytorch #155958).
    torch.backends.cuda.enable_cudnn_sdp(False)
    return device


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16: accelerators but old GPUs, and some CPUs."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def in_precision(device: torch.device, half: bool) -> torch.autocast:
    """bf16 mixed precision within, where ``half`` says so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=half)
