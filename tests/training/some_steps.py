"""Steps of every objective on a device: what test_standin and test_cuda compare with those on the CPU.

Also what waits for a device, and must be refused by all that say that nothing does.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from jettag.config.recipe import TrainingRecipe
from jettag.data.loader import Loader
from jettag.training import Limits, Trainer

from .test_waiting import EVERY, shipped

CPU = torch.device("cpu")
EACH = [training for training in EVERY if training[0] not in ("jetclr", "supervised", "weak")]  # parts of the others
CALLS: list[dict[str, Any]] = [
    *({"name": name, "mode": mode, "optimizer": optimizer, "precision": "fp64"} for name, mode, optimizer in EACH),
    *({"name": name, "mode": mode, "precision": "fp32"} for name, mode, _ in EACH),
    *({"name": name, "mode": None, "precision": "bf16"} for name in ("both", "mpm-vqvae")),
    {"name": "both", "mode": None, "precision": "fp16", "accumulate": 3},
    *({"name": name, "mode": None, "precision": "fp64", "accumulate": 3} for name in ("both", "flavour")),
    *({"name": name, "mode": None, "precision": "bf16", "drop": 0.1} for name in ("both", "top")),
    {"name": "top", "mode": "lora", "precision": "fp32", "drop": 0.1},
]
NAMES = ["-".join(map(str, call.values())) for call in CALLS]


def losses(
    device: torch.device,
    not_waiting: AbstractContextManager[object],
    *,
    name: str,
    mode: str | None,
    drop: float = 0.0,
    **settings: Any,
) -> dict[str, list[float]]:
    """Of some steps, within ``not_waiting``, and of a validation after it."""
    torch.manual_seed(0)
    model, table = shipped(name, mode, drop)
    recipe = TrainingRecipe(max_steps=10, **settings)
    loader = Loader(table, batch_size=16, seed=0, pieces=recipe.accumulate, device=device)
    trainer = Trainer(model.train(), loader, recipe, device=device, seed=0, settings={})
    with not_waiting:
        found = [trainer.update(Limits(10))["loss"] for _ in range(2)]
    assert all(loss.device.type == device.type for loss in found)
    trainer.refuse_divergence()
    return {"steps": [loss.item() for loss in found], "validation": [trainer.validate(table, 16, 0)["loss"]]}


def tolerance(call: dict[str, Any]) -> float:
    """Of losses on two devices."""
    if call.get("drop"):
        return 1.0  # what is dropped is another choice
    # Half precision rounds by 4e-3 in every operation, and some recipes' first steps are long: it is there to run.
    return {"fp64": 1e-9, "fp32": 2e-4, "bf16": 0.1, "fp16": 0.05}[call["precision"]]


ASKING: list[Callable[[torch.Tensor], object]] = [
    lambda x: x.sum().item(),
    lambda x: x.cpu(),
    lambda x: float(x.sum()),
    lambda x: int(x.sum()),
    lambda x: bool(x.any()),
    lambda x: x.nonzero(),
    lambda x: x[x > 0],
    lambda x: x.new_tensor([1.0, 2.0]),
    lambda x: x.copy_(torch.ones(3)),
    lambda x: x.copy_(torch.ones(3), non_blocking=True),
    lambda x: torch.ones(3).to(x.device, non_blocking=True),
    lambda x: torch.tensor([1.0, 2.0], device=x.device),
]


def refuse(
    asking: list[Callable[[torch.Tensor], object]],
    x: torch.Tensor,
    within: Callable[[], AbstractContextManager[object]],
    error: type,
) -> None:
    """Each of these is refused, or nothing that follows would say anything."""
    for number, ask in enumerate(asking):
        try:
            with within():
                ask(x)
        except error:
            continue
        msg = f"number {number} of what gives {error.__name__} was not seen"
        raise AssertionError(msg)
