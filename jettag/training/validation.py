"""The validation loss: the same number whatever the number of processes."""

import numpy as np
import torch
from torch import Tensor

from jettag.data.jets import Table
from jettag.data.loader import once
from jettag.objectives import Objective
from jettag.training.distributed import ALONE, World
from jettag.training.pieces import TINY

__all__ = ["validate"]


@torch.no_grad()
def validate(
    model: Objective, table: Table, batch_size: int, device: torch.device, seed: int, world: World = ALONE
) -> dict[str, float]:
    """Mean of each loss over ``table``, in evaluation mode.

    What is hidden is drawn from ``seed`` and the batch's number. Batches are dealt out to the processes; their sums
    are added in float64.
    """
    was_training = model.training
    model.eval()
    names: list[str] = []
    values: list[Tensor] = []
    weights: list[Tensor] = []
    for number, (_, jets) in enumerate(once(table, batch_size)):
        if number % world.size != world.rank and names:
            continue  # the first batch is everybody's, so that everybody knows the names
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
        losses = model(jets.to(device), drawn=model.draw(jets, generator))
        weight = losses.pop("weight")
        names = list(losses)
        values.append(torch.stack(list(losses.values())))
        weights.append(weight * (number % world.size == world.rank))
    model.train(was_training)
    value, weight = torch.stack(values).cpu().double(), torch.stack(weights).cpu().double()
    sums = world.sum(torch.stack([(value * weight).sum(0), weight.sum(0)]))
    return dict(zip(names, (sums[0] / sums[1].clamp(min=TINY)).tolist(), strict=True))
