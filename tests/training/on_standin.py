"""What test_standin starts: steps of every objective on the CPU, and on what only looks like an accelerator."""

import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any

import torch

from ..standin import Waits, no_doubles, no_waiting, on_standin
from .some_steps import ASKING, CPU, losses, refuse


def steps(device: torch.device, **call: Any) -> dict[str, Any]:
    """Losses of some steps and of a validation; on the device nothing waits for it until the steps are done.

    Unless they are taken in double precision, nothing there may have it; and the operators that run there are told.
    """
    if device == CPU:
        return losses(device, contextlib.nullcontext(), **call)
    with contextlib.nullcontext(set()) if call["precision"] == "fp64" else no_doubles() as ran:
        found = losses(device, no_waiting(), **call)
    return found | {"operators": sorted(ran)}


def refuse_to_wait(device: torch.device) -> None:
    """What waits is seen, and so is what mixes devices."""
    x = torch.zeros(3, device=device)
    refuse(ASKING, x, no_waiting, Waits)
    refuse([lambda x: x + torch.ones(3)], x, contextlib.nullcontext, RuntimeError)


DOUBLE: list[Callable[[torch.Tensor], object]] = [
    lambda x: x.double(),
    lambda x: x.to("cpu", torch.float64),
    lambda x: torch.zeros(3).double().copy_(x),
    lambda x: torch.zeros(3, dtype=torch.float64).to(x.device),
    lambda x: torch.zeros(3, dtype=torch.float64, device=x.device),
    lambda x: torch.arange(3.0, dtype=torch.float64, device=x.device),
    lambda x: x.sum(dtype=torch.float64),
    lambda x: x.to(torch.complex128),
]


def refuse_doubles(device: torch.device) -> None:
    """Double precision is refused wherever MPS refuses it, and nowhere else."""
    x = torch.ones(3, device=device)
    refuse(DOUBLE, x, no_doubles, TypeError)
    with no_doubles() as ran:  # numbers of the host take the type of the device's; copies are converted before they go
        assert (x * torch.tensor(0.5, dtype=torch.float64)).dtype is torch.float32
        x.copy_(torch.zeros(3, dtype=torch.float64))
        x.cpu().double()
    assert "aten::mul.Tensor" in ran


if __name__ == "__main__":
    torch.set_num_threads(1)
    with on_standin() as device:
        refuse_to_wait(device)
        refuse_doubles(device)
    answers = []
    for call in json.loads(sys.argv[1]):
        on_cpu = steps(CPU, **call)
        with on_standin() as device:
            answers.append([on_cpu, steps(device, **call)])
    sys.stdout.write(json.dumps(answers))
