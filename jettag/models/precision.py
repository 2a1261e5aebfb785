"""Numbers that mixed precision must not round, in networks of single or of double precision."""

import torch
from torch import Tensor

__all__ = ["widened"]


def widened(x: Tensor) -> Tensor:
    """``x`` in single precision at least: what half precision gave is widened, double precision stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
