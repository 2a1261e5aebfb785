"""The summary of a jet: what is read off the last block, and the means over constituents of blocks before it."""

import pytest
import torch

from jettag.errors import RecipeError
from jettag.models import ParticleTransformer

from .conftest import random_jets
from .test_particle_transformer import build, in_double, same

DEEP = {"num_layers": 3, "summary_blocks": 3}


def after(model, jets, blocks):
    """What the constituents of each jet are after so many blocks, by a network that ends there."""
    shallow = ParticleTransformer(**{**model.settings(), "num_layers": blocks, "summary_blocks": 1}).double().eval()
    shallow.load_state_dict(model.state_dict(), strict=False)
    return shallow.constituents(jets)


@pytest.mark.parametrize("changes", [{}, {"num_class_layers": 0}, {"num_registers": 2}, {"pair_dims": ()}], ids=str)
def test_each_part_is_the_mean_after_a_block(jets, changes):
    model, jets = build(**DEEP, **changes), in_double(jets)
    encoded = model(jets)
    assert encoded.summary.shape == (len(jets), model.summary_dim) == (len(jets), 48)
    parts = encoded.summary.split(16, dim=1)
    same(parts[0], encoded.jet)
    number = jets.mask.sum(1, keepdim=True)
    for part, blocks in zip(parts[1:], (2, 1), strict=True):
        same(part, model.norm(after(model, jets, blocks).sum(1) / number))


def test_one_block_is_the_jet_embedding_and_the_weights_are_the_same(jets):
    deep, jets = build(**DEEP), in_double(jets)
    shallow = build(num_layers=3)
    assert deep.state_dict().keys() == shallow.state_dict().keys()
    assert "summary_blocks" not in shallow.settings()
    assert torch.equal(shallow(jets).summary, shallow(jets).jet)
    shallow.read_blocks(3)
    assert torch.equal(shallow(jets).summary, deep(jets).summary)
    assert shallow.settings() == deep.settings()


def test_order_and_groups_of_jets_do_not_matter_and_gradients_reach_every_block():
    jets = in_double(random_jets([40, 3, 0, 17, 1, 29, 12, 5, 8, 30, 2, 2], width=64))
    model = build(**DEEP, checkpointing=True).train()
    packed = model(jets).summary
    packed.sin().sum().backward()
    model.one_group = True
    same(model(jets).summary, packed)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("number", [0, 4])
def test_blocks_that_are_not_there_cannot_be_read(number):
    with pytest.raises(RecipeError, match=f"summary_blocks {number} of 3 blocks"):
        build(num_layers=3, summary_blocks=number)
    with pytest.raises(RecipeError, match=f"summary_blocks {number} of 3 blocks"):
        build(num_layers=3).read_blocks(number)
