"""One step: pieces of a batch are the batch, half precision survives an overflow."""

import copy

import numpy as np
import pytest
import torch

from jettag.config.objectives import ContrastiveRecipe, JointRecipe
from jettag.models import build_backbone
from jettag.models.batch_norm import RealBatchNorm
from jettag.objectives.build import JetsAre, build_objective
from jettag.training import Limits
from jettag.training.memory import estimate, size
from jettag.training.pieces import cut
from jettag.training.sharding import clip

from ..conftest import make_table
from ..objectives.test_classification import make_model as make_classifier
from ..objectives.test_joint import SMALL
from ..objectives.test_masked import TINY
from ..objectives.test_masked import make_model as make_masked
from ..objectives.test_tokenizer import make_tokenizer
from .test_loop import RECIPE, make_trainer

COMPARING = {"contrastive": ContrastiveRecipe(), "joint": JointRecipe.model_validate({"masked": SMALL})}


def make_comparing(table, name):
    torch.manual_seed(0)
    backbone = build_backbone("particle_transformer", "tiny", len(table.feature_names), **TINY)
    model = build_objective(COMPARING[name], backbone, JetsAre(table.feature_names, 14))
    model.prepare(table, seed=0)
    return model


MODELS = {
    "contrastive": lambda table: make_comparing(table, "contrastive"),
    "joint": lambda table: make_comparing(table, "joint"),
    "masked": make_masked,
    "flow": lambda table: make_masked(table, name="flow"),
    "tokenizer": make_tokenizer,
    "setflow": lambda table: make_masked(table, name="setflow"),
    "classification": lambda table: make_classifier(table, class_weight=[1.0, 2.5]),
}


def quiet(model):
    """Training mode without what makes a jet depend on its batch (BatchNorm) or on chance (dropout)."""
    model.train()
    for module in model.modules():
        if isinstance(module, RealBatchNorm):
            module.eval()
        for name in ("drop", "attention_drop"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model


# Codes follow each piece, so a tokenizer's second piece meets others.
@pytest.mark.parametrize("objective", sorted(set(MODELS) - {"tokenizer"}))
@pytest.mark.parametrize("pieces", [2, 5, 100])
def test_pieces_of_a_batch_give_the_gradient_of_the_whole(table, objective, pieces):
    """Classes weigh differently and jets of one constituent hide none: a mean of means would not do."""
    whole = quiet(MODELS[objective](table))
    parts = copy.deepcopy(whole)
    recipe = RECIPE.model_copy(update={"accumulate": pieces})
    one, other = make_trainer(table, model=whole), make_trainer(table, recipe, model=parts)
    batch = table.batch(np.arange(33))
    losses = [trainer.gradients(batch) for trainer in (one, other)]
    for name, value in losses[0].items():
        assert losses[1][name].item() == pytest.approx(value.item(), rel=1e-6), name
    for (name, a), b in zip(whole.named_parameters(), parts.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            # Sums in another order; 1.6e-6 was seen on an AMD CPU where the largest gradient is 0.8.
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=4e-6, msg=name)


@pytest.mark.parametrize("name", ["contrastive", "joint"])
def test_pieces_are_compared_with_the_whole_batch_from_the_same_random_numbers(table, name):
    """With dropout and batch statistics: the gradient is that of one graph that holds all pieces at once."""
    model = make_comparing(table, name).train()
    for module in model.backbone.modules():
        if isinstance(getattr(module, "drop", None), float):
            module.drop = module.attention_drop = 0.2
    held = copy.deepcopy(model)
    trainer = make_trainer(table, RECIPE.model_copy(update={"accumulate": 3}), model=model)
    batch = table.batch(np.arange(33))
    drawn = model.draw(batch, torch.Generator().manual_seed(trainer.generator.initial_seed()))

    torch.manual_seed(7)
    found = trainer.gradients(batch)

    seen, embedded, masked = [], [], []
    contrastive = held if name == "contrastive" else held.contrastive

    def keep(_module, given, out):
        seen.append(torch.stack(out.chunk(2), 1))
        embedded.append(given[0].chunk(2)[0])

    contrastive.projection.register_forward_hook(keep)
    torch.manual_seed(7)
    for jets, rows, _ in cut(batch, drawn, 3):
        losses = held(jets, drawn=rows)
        if name == "joint":
            masked.append((losses["loss"] - held.compare(seen[-1], embedded[-1])["loss"]) * len(jets))
    losses = held.compare(torch.cat(seen), torch.cat(embedded))
    (losses["loss"] + sum(masked) / len(batch)).backward()
    for key in ("alignment", "uniformity", "spread", "rank"):
        torch.testing.assert_close(found[key], losses[key].double(), msg=key)
    for (key, a), b in zip(model.named_parameters(), held.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6, msg=key)
    for (key, a), b in zip(model.named_buffers(), held.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=key)


def test_a_batch_in_which_nothing_counts_has_loss_zero_and_moves_nothing():
    table = make_table(40, longest=1)  # one constituent each: nothing can be hidden
    trainer = make_trainer(table, RECIPE.model_copy(update={"accumulate": 2}), model=make_masked(make_table(100)))
    losses = trainer.gradients(table.batch(np.arange(8)))
    assert losses["loss"].item() == 0.0
    assert all(p.grad is None or (p.grad == 0).all() for p in trainer.model.parameters())


@pytest.mark.parametrize(("jets", "size", "parts"), [(10, 1, 1), (33, 2, 1), (33, 2, 4), (9, 2, 4), (2, 2, 1)])
def test_every_jet_is_in_one_piece_and_no_piece_is_empty(table, jets, size, parts):
    batch = table.batch(np.arange(jets))
    drawn = torch.arange(jets)
    of_ranks = [slice(rank, None, size) for rank in range(size)]
    pieces = [list(cut(batch.rows(own), drawn[own], parts)) for own in of_ranks]
    assert len({len(of_rank) for of_rank in pieces}) == 1
    found = []
    for piece, rows, _ in (p for of_rank in pieces for p in of_rank):
        assert len(piece)
        assert torch.equal(piece.p4, batch.p4[rows])
        found += rows.tolist()
    assert sorted(found) == list(range(jets))
    assert [is_last for _, _, is_last in pieces[0]] == [False] * (len(pieces[0]) - 1) + [True]


def test_half_precision_leaves_out_a_step_that_overflows_and_goes_on(table):
    trainer = make_trainer(table, RECIPE.model_copy(update={"precision": "fp16", "ema_decay": None}))
    trainer.model.train()
    trainer.update(Limits(100))
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.scaler.update(2.0**120)  # no gradient fits into half precision at this scale
    trainer.update(Limits(100))
    for name, value in trainer.model.named_parameters():
        assert torch.equal(value, before[name]), name
    assert trainer.scaler.get_scale() < 2.0**120
    trainer.scaler.update(2.0**8)
    trainer.update(Limits(100))
    assert any(not torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())


@pytest.mark.parametrize("most", [None, 1e-3])
def test_gradients_are_clipped_to_a_norm_or_left_as_they_are(table, most):
    model = make_masked(table)
    for value in model.parameters():
        value.grad = torch.full_like(value, 0.5)
    number = sum(value.numel() for value in model.parameters())
    assert clip(model, most).item() == pytest.approx(0.5 * number**0.5)
    after = sum(value.grad.square().sum() for value in model.parameters()).sqrt().item()
    assert after == pytest.approx(most or 0.5 * number**0.5, rel=1e-4)


def test_the_estimate_of_memory_counts_what_can_be_counted_and_touches_nothing(table):
    model = make_masked(table).train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    longest = table.batch(np.argsort(-table.counts)[:8])
    memory = estimate(model, RECIPE, longest)
    parameters = sum(4 * p.numel() for p in model.parameters())
    assert memory.gradients == parameters
    assert 2 * parameters <= memory.optimizer <= 2.1 * parameters  # AdamW: two moments, and a counter each
    ranger = estimate(model, RECIPE.model_copy(update={"optimizer": "ranger"}), longest)
    assert 3 * parameters <= ranger.optimizer <= 3.1 * parameters  # and the slow weights
    assert memory.average == memory.parameters >= parameters
    twice = estimate(model, RECIPE, longest.rows(slice(None, 4))).jet
    assert twice == pytest.approx(memory.jet, rel=0.5)
    assert memory.total(20) - memory.total(10) == 10 * memory.jet
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert [size(x) for x in (5, 2_500, 123_456_789)] == ["5 B", "2.5 kB", "123 MB"]


def test_the_estimate_of_memory_counts_what_threads_save(table):
    model = make_masked(table).train()
    jets = table.batch(np.arange(len(table)))
    alone = estimate(model, RECIPE, jets)
    torch.set_num_threads(3)
    try:
        assert estimate(model, RECIPE, jets) == alone
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
