"""What test_standin starts: steps of every objective on the CPU, and on what only looks like an accelerator."""

import contextlib
import json
import sys
from typing import Any

import torch

from jettag.config.recipe import TrainingRecipe
from jettag.data.loader import Loader
from jettag.training import Limits, Trainer

from ..standin import no_waiting, on_standin
from .test_waiting import shipped

CPU = torch.device("cpu")


def steps(
    device: torch.device, name: str, mode: str | None, *, drop: float = 0.0, **settings: Any
) -> dict[str, list[float]]:
    """Losses of some steps and of a validation; on the device nothing waits for it until the steps are done."""
    torch.manual_seed(0)
    model, table = shipped(name, mode, drop)
    recipe = TrainingRecipe(max_steps=10, **settings)
    loader = Loader(table, batch_size=16, seed=0, pieces=recipe.accumulate, device=device)
    trainer = Trainer(model.train(), loader, recipe, device=device, seed=0, settings={})
    with contextlib.nullcontext() if device == CPU else no_waiting():
        found = [trainer.update(Limits(10))["loss"] for _ in range(2)]
    assert all(loss.device.type == device.type for loss in found)
    trainer.refuse_divergence()
    return {"steps": [loss.item() for loss in found], "validation": [trainer.validate(table, 16, 0)["loss"]]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    answers = []
    for call in json.loads(sys.argv[1]):
        on_cpu = steps(CPU, **call)
        with on_standin() as device:
            answers.append([on_cpu, steps(device, **call)])
    sys.stdout.write(json.dumps(answers))
