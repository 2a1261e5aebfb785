"""The validation loss: the same number whatever the number of processes."""

import numpy as np
import torch
from torch import Tensor

from jettag.data.jets import Table
from jettag.data.once import dealt
from jettag.objectives import Objective
from jettag.training.distributed import ALONE, World
from jettag.training.pieces import TINY

__all__ = ["validate"]


@torch.no_grad()
def validate(
    model: Objective, table: Table, batch_size: int, device: torch.device, seed: int, world: World = ALONE
) -> dict[str, float]:
    """Mean of each loss over ``table``, in evaluation mode, and what the objective concludes from its tally.

    What is hidden is drawn from ``seed`` and the batch's number. Each process builds its share of the batches; their
    sums are added in float64. One that has fewer than another repeats one that does not count: where parameters are
    sharded, all must compute equally often.
    """
    was_training = model.training
    model.eval()
    names: list[str] = []
    values: list[Tensor] = []
    weights: list[Tensor] = []
    tallies: list[Tensor] = []
    for number, _, jets, counts in dealt(table, batch_size, rank=world.rank, world_size=world.size, device=device):
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
        drawn = model.draw(jets.pad(model.draws_from), generator)
        losses = model(jets.to(device), drawn=drawn)
        weight = losses.pop("weight")
        if "tally" in losses:
            tallies.append(losses.pop("tally") * counts)
        names = list(losses)
        values.append(torch.stack(list(losses.values())))
        weights.append(weight * counts)
    model.train(was_training)
    value, weight = torch.stack(values).cpu().double(), torch.stack(weights).cpu().double()
    sums = world.sum(torch.stack([(value * weight).sum(0), weight.sum(0)]))
    found = dict(zip(names, (sums[0] / sums[1].clamp(min=TINY)).tolist(), strict=True))
    if not tallies:
        return found
    return found | model.conclude(world.sum(torch.stack(tallies).cpu().double().sum(0)))
