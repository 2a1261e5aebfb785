"""Copies to a device that do not wait for it."""

import torch
from torch import Tensor

__all__ = ["sent"]


def sent(x: Tensor, device: torch.device | str) -> Tensor:
    """``x`` on a device; the host goes on at once, but for MPS.

    There the device reads from memory of the host that may have been given away by then: what arrives is something else
    (pytorch #139550, #189690).
    """
    return x.to(device, non_blocking=torch.device(device).type != "mps")
