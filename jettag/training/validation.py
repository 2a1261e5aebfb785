"""The validation loss: the same number whatever the number of processes."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from jettag.data.jets import Jets, Table
from jettag.data.loader import once
from jettag.objectives import Objective
from jettag.training.distributed import ALONE, World
from jettag.training.pieces import TINY

__all__ = ["validate"]


@torch.no_grad()
def validate(
    model: Objective, table: Table, batch_size: int, device: torch.device, seed: int, world: World = ALONE
) -> dict[str, float]:
    """Mean of each loss over ``table``, in evaluation mode, and what the objective concludes from its tally.

    What is hidden is drawn from ``seed`` and the batch's number. Batches are dealt out to the processes in rounds;
    their sums are added in float64. A process for which the last round has no batch takes one that does not count:
    where parameters are sharded, all must compute equally often.
    """
    was_training = model.training
    model.eval()
    names: list[str] = []
    values: list[Tensor] = []
    weights: list[Tensor] = []
    tallies: list[Tensor] = []
    for number, jets, counts in _dealt(table, batch_size, world):
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
        losses = model(jets.to(device), drawn=model.draw(jets, generator))
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


def _dealt(table: Table, batch_size: int, world: World) -> Iterator[tuple[int, Jets, bool]]:
    """This process's batches with their numbers, equally many on every process, and whether each is its own."""
    round_of: list[tuple[int, Jets]] = []
    for number, (_, jets) in enumerate(once(table, batch_size)):
        round_of.append((number, jets))
        if len(round_of) == world.size:
            yield *round_of[world.rank], True
            round_of.clear()
    if round_of:
        own = world.rank < len(round_of)
        yield *round_of[world.rank if own else 0], own
