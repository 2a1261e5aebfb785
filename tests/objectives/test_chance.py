"""What is random in a batch does not depend on how many processes share it."""

import numpy as np
import pytest
import torch

from jettag.data.jets import JetTable
from jettag.objectives.chance import Shared, normal, uniform

from ..conftest import make_table
from ..training.spread import MODELS
from .test_flavour import REGRESSION, make_model, truth_table

PROCESSES = 3


def shares(total):
    """Places of each process's jets: every third, or as from disk, in another order."""
    mixed = np.random.default_rng(2).permutation(total)
    yield [torch.arange(rank, total, PROCESSES) for rank in range(PROCESSES)]
    yield [torch.from_numpy(part) for part in np.array_split(mixed, PROCESSES)]


@pytest.mark.parametrize("draw", [uniform, normal])
def test_the_numbers_of_a_jet_are_its_own(draw):
    whole = draw((10, 4), torch.Generator().manual_seed(5))
    for places in shares(10):
        for own in places:
            chance = Shared(torch.Generator().manual_seed(5), 10, own, torch.clone)
            assert torch.equal(draw((len(own), 4), chance), whole[own])


def together(model, table: JetTable, total: int):
    """What a process alone draws for a batch, and what three draw for their shares, put in its order."""
    jets = table.batch(np.arange(total))
    width = jets.mask.shape[1]
    whole = model.draw(jets, torch.Generator().manual_seed(1))
    for places in shares(total):
        own = [table.batch(part.numpy(), width) for part in places]
        # The sum over processes, each of which is asked in turn: the whole batch's, as it is linear.
        counted = model._counts(jets) if hasattr(model, "_counts") else None
        found = torch.empty_like(whole)
        for part, batch in zip(places, own, strict=True):
            chance = Shared(torch.Generator().manual_seed(1), total, part, lambda _, counted=counted: counted)
            found[part] = model.draw(batch, chance)
        yield found, whole


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"classification", "lpft"}))
def test_every_objective_draws_alike_for_any_number_of_processes(name):
    table = make_table()
    for found, whole in together(MODELS[name](table), table, 31):
        assert torch.equal(found, whole)


def test_the_denominators_of_flavour_are_sums_over_processes():
    flavours = truth_table()
    model = make_model(flavours, {"class_weight": [1.0, 3.0, 0.5]}, regression=REGRESSION)
    jets = flavours.batch(np.arange(20))
    for places in shares(20):
        parts = [model._counts(flavours.batch(part.numpy())) for part in places]
        torch.testing.assert_close(torch.stack(parts).sum(0), model._counts(jets))
    for found, whole in together(model, flavours, 20):
        torch.testing.assert_close(found, whole)
