"""Copies to a device for which the host does not wait."""

import torch
from torch import Tensor

__all__ = ["reads_beside", "sent"]

PINNED = ("cuda",)  # kinds of device that read memory of the host beside it, where that memory is page-locked
UNSAFE = ("mps",)  # that read memory which the host may have given away by then (pytorch #139550, #189690)


def reads_beside(device: torch.device) -> bool:
    """Whether memory that goes there should be page-locked."""
    return device.type in PINNED


def sent(x: Tensor, device: torch.device | str) -> Tensor:
    """``x`` on a device; on the way to an accelerator the host goes on at once, where that is safe."""
    device = torch.device(device)
    if reads_beside(device) and x.device.type == "cpu" and not (x.is_pinned() and x.is_contiguous()):
        x = x.contiguous().pin_memory()  # what has gaps PyTorch would gather in memory that is not page-locked
    return x.to(device, non_blocking=device.type not in ("cpu", *UNSAFE))
