"""Numbers that mixed precision must not round, in networks of single or of double precision."""

import torch
from torch import Tensor

__all__ = ["doubled", "unrounded", "widened"]

WITHOUT_DOUBLES = ("mps",)  # kinds of device


def doubled(like: Tensor) -> torch.dtype:
    """The type of sums whose last digits matter: double precision, where the device of ``like`` has it."""
    return widened(like).dtype if like.device.type in WITHOUT_DOUBLES else torch.float64


def unrounded(like: Tensor) -> torch.autocast:
    """Within, mixed precision rounds nothing on the device of ``like``: products too are in the type of their factors.

    To widen what goes into a matrix product is not enough: autocast would narrow it again.
    """
    return torch.autocast(like.device.type, enabled=False)


def widened(x: Tensor) -> Tensor:
    """``x`` in single precision at least: what half precision gave is widened, double precision stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
