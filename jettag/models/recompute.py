"""What is computed a second time in the backward pass, instead of kept from the forward pass."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from jettag.models.randomness import device_state, forked, set_device_state

__all__ = ["recomputed"]

FORGOTTEN = ("mps",)  # kinds of device whose generator PyTorch does not put back for the second time (pytorch #127676)


def recomputed(function: Callable[..., Any], *arguments: Any, draws: bool = False) -> Any:
    """``function`` of these, with what it needs for its gradient computed again when that is asked for.

    Args:
        function: of the arguments.
        *arguments: tensors or None; the first is a tensor, and tells the device.
        draws: it drops something, the same both times.
    """
    if not draws:
        return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    device = arguments[0].device
    if device.type not in FORGOTTEN:
        return checkpoint(function, *arguments, use_reentrant=False)
    return checkpoint(function, *arguments, use_reentrant=False, context_fn=partial(_replayed, device))


def _replayed(
    device: torch.device,
) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    """For the first time nothing; for the second the device's generator as it was at the first."""
    state = device_state(device)
    assert state is not None  # those that PyTorch forgets have one

    @contextlib.contextmanager
    def again() -> Iterator[None]:
        with forked(device):
            set_device_state(device, state)
            yield

    return contextlib.nullcontext(), again()
