"""Classification: weights, frozen backbones, labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from jettag.models import build_backbone
from jettag.objectives import Classification
from jettag.objectives.phases import FROZEN, Phases

from .test_masked import TINY


def make_model(table, backbone_options=None, **options):
    torch.manual_seed(0)
    settings = {**TINY, **(backbone_options or {})}
    backbone = build_backbone("particle_transformer", "tiny", len(table.feature_names), **settings)
    return Classification(backbone, 2, **options)


def test_the_loss_is_the_weighted_cross_entropy_by_hand(table):
    model = make_model(table, class_weight=[1.0, 3.0]).eval()
    jets = table.batch(np.arange(10))
    logits = model.logits(jets).detach().double().numpy()
    label = jets.label.numpy()
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    weight = np.array([1.0, 3.0])[label]
    expected = -(weight * log_p[np.arange(10), label]).sum() / weight.sum()
    assert model(jets)["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_the_weight_of_a_jet_multiplies_that_of_its_class(table):
    model = make_model(table, class_weight=[1.0, 3.0], label_smoothing=0.1).eval()
    jets = table.batch(np.arange(10))
    plain, ones = model(jets), model(replace(jets, weight=torch.ones(10)))
    assert ones["loss"].item() == pytest.approx(plain["loss"].item(), rel=1e-6)
    # A weight of two is the same jet twice, a weight of zero the jet left out.
    weight = torch.tensor([2.0] * 4 + [0.0] * 2 + [1.0] * 4)
    repeated = model(table.batch(np.array([0, 1, 2, 3, 0, 1, 2, 3, 6, 7, 8, 9])))
    weighted = model(replace(jets, weight=weight))
    assert weighted["loss"].item() == pytest.approx(repeated["loss"].item(), rel=1e-5)
    assert weighted["weight"][0].item() == pytest.approx(repeated["weight"][0].item(), rel=1e-6)


def steps(model, table, count=3):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(count):
        optimizer.zero_grad()
        model(table.batch(np.arange(32)))["loss"].backward()
        optimizer.step()


DROPS = {"dropout": 0.3, "attention_dropout": 0.3, "class_dropout": 0.3, "drop_path": 0.3}


@pytest.mark.parametrize("options", [{}, {"attentive": True}, {"head_hidden": (8,)}], ids=str)
def test_a_frozen_backbone_does_not_move_in_any_way(table, options):
    """No weight, no BatchNorm statistic; and what comes out of it does not depend on chance."""
    model = make_model(table, phases=FROZEN, backbone_options=DROPS, **options).train()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    jets = table.batch(np.arange(32))
    expected = model.embed(jets)
    head = {name: value.clone() for name, value in model.head.named_parameters()}
    steps(model, table)
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(model.embed(jets), expected)
    for name, value in model.head.named_parameters():
        assert not torch.equal(value, head[name]), name


def test_low_rank_updates_move_and_the_rest_of_the_backbone_stays(table):
    model = make_model(table, lora={"rank": 2}, backbone_options=DROPS).train()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    steps(model, table)
    moved = {name for name, value in model.backbone.state_dict().items() if not torch.equal(value, before[name])}
    norms = {f"{place}." for place, module in model.backbone.named_modules() if isinstance(module, torch.nn.LayerNorm)}
    for name in before:
        may = "lora_" in name or name == "class_token" or any(name.startswith(norm) for norm in norms)
        assert (name in moved) == may, name
    assert {f"backbone.{name}" for name in moved} <= model.trained()


def test_a_backbone_set_free_moves_as_one_that_never_was_frozen(table):
    free, staged = make_model(table), make_model(table, phases=Phases(frozen=0.5))
    assert staged.is_frozen
    assert staged.trained() == free.trained()
    assert not staged.enter(0.49)
    assert staged.enter(0.5)
    assert not staged.enter(1.0)
    for model in (free, staged):
        steps(model.train(), table)
    for (name, a), b in zip(free.state_dict().items(), staged.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_the_attentive_head_reads_real_constituents_in_any_order(table):
    model = make_model(table, attentive=True, phases=FROZEN).eval()
    jets = table.batch(np.arange(20))
    constituents, mask = model.embed(jets), jets.mask
    expected = model.head(constituents, mask)
    turned = torch.randperm(mask.shape[1], generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.head(constituents[:, turned], mask[:, turned]), expected)
    noise = torch.where(mask[..., None], constituents, 7.0)
    torch.testing.assert_close(model.head(noise, mask), expected)


def test_unlabelled_jets_are_refused(table):
    jets = table.batch(np.arange(4))
    with pytest.raises(ValueError, match="labelled"):
        make_model(table)(type(jets)(features=jets.features, p4=jets.p4, mask=jets.mask))
