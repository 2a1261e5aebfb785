"""What is computed a second time in the backward pass, instead of kept from the forward pass."""

import contextlib
from collections.abc import Callable
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
    return checkpoint(function, *arguments, use_reentrant=False, context_fn=partial(_twice, device))


class _Again:
    """Within, the device's generator is as it was when this was made."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._state = device, device_state(device)

    def __enter__(self) -> None:
        assert self._state is not None  # those that PyTorch forgets have one
        self._forked = forked(self._device)
        self._forked.__enter__()
        set_device_state(self._device, self._state)

    def __exit__(self, *problem: Any) -> None:
        self._forked.__exit__(*problem)


def _twice(device: torch.device) -> tuple[contextlib.AbstractContextManager[None], _Again]:
    """What surrounds the first time, and every later one."""
    return contextlib.nullcontext(), _Again(device)
