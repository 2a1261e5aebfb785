"""What a process asks the GPU that computes nothing, on which it runs."""

import contextlib
import ctypes
from collections.abc import Iterator

import torch

__all__ = ["Waits", "kernels", "no_waiting", "traffic"]

_GPU = ctypes.CDLL(None)  # it was loaded before anything else
_SAID = ("synchronizing CUDA operation", "the null GPU was to be waited for")  # by PyTorch, and by `gpu.c`
EXCHANGES = ("all_reduce", "all_gather", "reduce_scatter")


class Waits(RuntimeError):
    """The host would have waited for the GPU."""


@contextlib.contextmanager
def no_waiting(*, but_for_events: bool = False) -> Iterator[None]:
    """Within, what waits is an error: for PyTorch by its own account, for the GPU by what is asked of it.

    The GPU is also waited for by copies between it and memory that is not page-locked, whatever PyTorch was told.
    """
    torch.cuda.set_sync_debug_mode("error")
    _GPU.nullgpu_refuse_waiting(1 if but_for_events else 2)
    try:
        yield
    except RuntimeError as problem:
        if any(words in str(problem) for words in _SAID):
            raise Waits(str(problem)) from problem
        raise
    finally:
        _GPU.nullgpu_refuse_waiting(0)
        torch.cuda.set_sync_debug_mode("default")


def kernels() -> int:
    """How many were launched, none of which ran; cuBLAS's own are not counted."""
    return int(_GPU.nullgpu_kernels())


def traffic() -> dict[str, object]:
    """On which GPUs this process did anything, and how often NCCL exchanged what."""
    used = [gpu for gpu in range(torch.cuda.device_count()) if _GPU.nullgpu_used(gpu)]
    return {"used": used, **{name: _GPU.nullgpu_exchanges(kind) for kind, name in enumerate(EXCHANGES)}}
