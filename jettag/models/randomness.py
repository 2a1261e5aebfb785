"""The random state of the device that dropout draws on, where it is not the CPU's."""

import contextlib

import torch
from torch import Tensor

__all__ = ["device_state", "forked", "set_device_state"]

OWN = ("cuda", "mps")  # kinds of device with a generator of their own that can be read


def device_state(device: torch.device) -> Tensor | None:
    """The state of the device's own generator; None where it has none."""
    if device.type not in OWN:
        return None
    state: Tensor = torch.get_device_module(device.type).get_rng_state(device)
    return state


def set_device_state(device: torch.device, state: Tensor) -> None:
    """Put the device's own generator back to a `device_state`."""
    torch.get_device_module(device.type).set_rng_state(state, device)


def forked(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """What is drawn inside, on the CPU or on the device, is drawn again after it."""
    if device.type not in OWN:
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device], device_type=device.type)
