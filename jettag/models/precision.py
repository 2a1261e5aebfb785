"""Numbers that mixed precision must not round, in networks of single or of double precision."""

import torch
from torch import Tensor

__all__ = ["unrounded", "widened"]


def unrounded(like: Tensor) -> torch.autocast:
    """Within, mixed precision rounds nothing on the device of ``like``: products too are in the type of their factors.

    To widen what goes into a matrix product is not enough: autocast would narrow it again.
    """
    return torch.autocast(like.device.type, enabled=False)


def widened(x: Tensor) -> Tensor:
    """``x`` in single precision at least: what half precision gave is widened, double precision stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
