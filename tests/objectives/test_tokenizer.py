"""The tokenizer: codes begin and stay alive, padding and order count for nothing, and it learns."""

import numpy as np
import pytest
import torch

from jettag.config.objectives import MaskedRecipe, TokenizerRecipe
from jettag.errors import DataError, RecipeError
from jettag.models import build_backbone
from jettag.objectives.build import JetsAre, build_masked, build_tokenizer
from jettag.objectives.codebook import Codebook
from jettag.training.validation import validate

from ..conftest import make_table
from .test_masked import TINY

SMALL = {"codes": 16, "latent": 4, "width": 16, "layers": 1, "heads": 2, "fit_constituents": 1000}


def make_tokenizer(table, seed=0, **changes):
    torch.manual_seed(seed)
    recipe = TokenizerRecipe.model_validate(SMALL | changes)
    model = build_tokenizer(recipe, JetsAre(table.feature_names, 12))
    model.prepare(table, seed=0)
    return model


@pytest.mark.parametrize("cosine", [False, True])
def test_every_parameter_learns_and_codes_follow(cosine):
    table = make_table(features="jetclass_full")
    model = make_tokenizer(table, cosine=cosine).train()
    before = model.tokenizer.codebook.codes.clone()
    model(table.batch(np.arange(64)))["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
    codes = model.tokenizer.codebook.codes
    assert not torch.equal(codes, before)
    if cosine:
        torch.testing.assert_close(codes.norm(dim=1), torch.ones(16))


def test_padding_and_order_count_for_nothing(table):
    model = make_tokenizer(table).eval()
    jets = table.batch(np.arange(6))
    wider = type(jets)(
        features=torch.nn.functional.pad(jets.features, (0, 0, 0, 5), value=2.0),
        p4=torch.nn.functional.pad(jets.p4, (0, 0, 0, 5)),
        mask=torch.nn.functional.pad(jets.mask, (0, 5)),
    )
    order = torch.randperm(wider.mask.shape[1], generator=torch.Generator().manual_seed(0))
    shuffled = type(jets)(features=wider.features[:, order], p4=wider.p4[:, order], mask=wider.mask[:, order])
    losses = model(jets)
    for other in (wider, shuffled):
        found = model(other)
        for name, value in losses.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)
    tokens = model.tokenizer.tokens(wider)[:, order]
    assert torch.equal(tokens[shuffled.mask], model.tokenizer.tokens(shuffled)[shuffled.mask])


def test_evaluation_changes_nothing_and_tells_errors_in_units(table):
    model = make_tokenizer(table).eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    losses = model(table.batch(np.arange(50)))
    assert {"error_log_pt", "error_deta_rad", "error_dphi_rad"} <= set(losses)
    assert len(losses["weight"]) == len(losses) - 2  # neither itself nor the tally is a mean
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_errors_are_physical():
    """One standard deviation of the feature 0.7 (ln pT - 1.7) is that many e-folds; tanh(d0) is undone."""
    table = make_table(features="jetclass_full")
    net = make_tokenizer(table).tokenizer
    quantities = net.quantities
    quantities.mean.zero_()
    quantities.std.fill_(0.7)
    values = torch.zeros(1, len(quantities))
    found = torch.full_like(values, 1.0)
    errors = dict(zip(quantities.names, net.physical_error(found, values)[0].tolist(), strict=True))
    assert errors["part_pt_log"] == pytest.approx(1.0)
    assert errors["part_deta"] == pytest.approx(0.7)
    assert errors["part_d0"] == pytest.approx(np.arctanh(0.7))
    assert errors["part_dzerr"] == pytest.approx(0.7)


def test_codes_are_the_means_of_what_chose_them_and_dead_ones_are_replaced():
    book = Codebook(3, 2, cosine=False, decay=0.5)
    book.begin(torch.tensor([[0.0, 0], [10, 0], [1000, 0]]))
    latents = torch.tensor([[1.0, 0], [11, 2], [9, 2], [77, 77]])
    real = torch.tensor([1.0, 1, 1, 0])
    for _ in range(40):
        book.follow(latents, book.nearest(latents), real, torch.tensor([0.3, 0.1, 0.2, 0.0]))
    assert book.codes.abs().max() < 20  # the one at 1000 was dead, and padding replaces nothing
    centres = {tuple(round(x) for x in row) for row in book.codes.tolist()}
    assert centres == {(1, 0), (11, 2), (9, 2)}


@pytest.mark.parametrize(("share", "perplexity", "used"), [([1, 1, 1, 1], 4.0, 1.0), ([1, 1, 0, 0], 2.0, 0.5)])
def test_perplexity_is_the_number_of_codes_used_alike(share, perplexity, used):
    book = Codebook(4, 2, cosine=False, decay=0.9)
    book.share.copy_(torch.tensor(share) / sum(share))
    found_used, found = book.usage
    assert found.item() == pytest.approx(perplexity, rel=1e-5)
    assert found_used.item() == used


def test_validation_tells_the_codes_that_its_jets_choose(table):
    """Of all batches together, padding left out; the running means of the training have no say."""
    model = make_tokenizer(table).train()
    model.tokenizer.codebook.share.zero_()[0] = 1.0
    chosen = []
    for jet in range(70):
        chosen += model.tokenizer.tokens(table.batch(np.arange(jet, jet + 1))).flatten().tolist()
    p = np.bincount(chosen, minlength=16) / len(chosen)
    found = validate(model, table.select(np.arange(70)), 16, torch.device("cpu"), 0)
    assert found["code_perplexity"] == pytest.approx(np.exp(-sum(x * np.log(x) for x in p if x)), rel=1e-5)
    assert found["codes_used"] == pytest.approx((p > 0.1 / 16).mean())
    assert found["code_perplexity"] > 2


def test_it_learns_to_rebuild(table):
    model = make_tokenizer(table).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    losses = []
    for step in range(60):
        loss = model(table.batch(np.arange(64) + 64 * (step % 3)))["loss"]
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


def test_jets_of_one_constituent_are_finite(table):
    model = make_tokenizer(table)
    lonely = make_table(20, longest=1)
    assert torch.isfinite(model(lonely.batch(np.arange(8)))["loss"])


def test_too_few_constituents_for_the_codes_are_refused():
    with pytest.raises(DataError, match="cannot fill 64 codes"):
        make_tokenizer(make_table(5), codes=64)


def test_a_frozen_tokenizer_is_a_target_that_does_not_move(table):
    tokenizer = make_tokenizer(table).tokenizer
    backbone = build_backbone("particle_transformer", "tiny", len(table.feature_names), **TINY)
    recipe = MaskedRecipe.model_validate({"target": {"name": "vqvae"}, "decoder": {"dim": 16, "layers": 1, "heads": 2}})
    with pytest.raises(RecipeError, match="no tokenizer given"):
        build_masked(recipe, backbone, JetsAre(table.feature_names, 12))
    model = build_masked(recipe, backbone, JetsAre(table.feature_names, 12, tokenizer=(tokenizer, "abc"))).train()
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    model(table.batch(np.arange(32)))["loss"].backward()
    assert not tokenizer.training
    assert model.settings()["tokenizer"]["sha256"] == "abc"
    for name, value in tokenizer.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("target.tokenizer."), name
