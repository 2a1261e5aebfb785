"""Classification: weights, frozen backbones, labels."""

import numpy as np
import pytest
import torch

from jettag.models import build_backbone
from jettag.objectives import Classification

from .test_masked import TINY


def make_model(table, **options):
    torch.manual_seed(0)
    backbone = build_backbone("particle_transformer", "tiny", len(table.feature_names), **TINY)
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


def test_a_frozen_backbone_does_not_move_in_any_way(table):
    model = make_model(table, freeze_backbone=True).train()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(3):
        model(table.batch(np.arange(32)))["loss"].backward()
        optimizer.step()
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_unlabelled_jets_are_refused(table):
    jets = table.batch(np.arange(4))
    with pytest.raises(ValueError, match="labelled"):
        make_model(table)(type(jets)(features=jets.features, p4=jets.p4, mask=jets.mask))
