"""Losses of salt-ml and discriminants of atlas-ftag-tools on one batch, kept in salt.json; see make_salt.py."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from jettag.config.flavour import ORIGINS, FlavourRecipe
from jettag.data.jets import Jets
from jettag.evaluation.discriminants import discriminant
from jettag.evaluation.metrics import background_rejection
from jettag.models import build_backbone
from jettag.models.vertices import vertex_index
from jettag.objectives import Flavour

from ..objectives.test_masked import TINY

SALT = json.loads(Path(__file__).with_name("salt.json").read_text(encoding="utf-8"))


class Given(nn.Module):
    """A head whose logits are given."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, *_):
        return self.logits


@pytest.fixture
def batch():
    return {name: torch.tensor(values) for name, values in SALT["batch"].items()}


def model_of(batch, **recipe):
    """The objective with salt's logits where its heads are."""
    backbone = build_backbone("particle_transformer", "tiny", 2, **TINY)
    model = Flavour(
        backbone,
        3,
        feature_names=("part_pt_log", "part_charge"),
        recipe=FlavourRecipe(vertex={"pair_weights": "salt"}, **recipe),
        origin_weight=SALT["origin_weight"],
        class_weight=SALT["jet_weight"],
    ).eval()
    mask = batch["mask"]
    upper = torch.ones(mask.shape[1], mask.shape[1], dtype=torch.bool).triu(1)
    model.head = Given(batch["jet_logits"])
    model.origin = Given(batch["origin_logits"][mask])
    model.vertex = Given(batch["pair_logits"][mask[:, :, None] & mask[:, None] & upper])
    return model


def jets_of(batch):
    mask = batch["mask"]
    p4 = torch.randn(*mask.shape, 3, generator=torch.Generator().manual_seed(0))
    p4 = torch.cat([p4, p4.norm(dim=-1, keepdim=True)], -1) * mask[..., None]
    truth = {name: batch[name] for name in ("label", "origin", "vertex")}
    return Jets(torch.ones(*mask.shape, 2) * mask[..., None], p4, mask, **truth)


def test_each_loss_is_salts(batch):
    found = model_of(batch)(jets_of(batch))
    for name, expected in SALT["losses"].items():
        assert found[f"{name}_loss"].item() == pytest.approx(expected, rel=1e-5), name
    jet, origin, vertex = (SALT["losses"][name] for name in ("jet", "origin", "vertex"))
    assert found["loss"].item() == pytest.approx(jet + 0.5 * origin + 1.5 * vertex, rel=1e-5)
    geometric = model_of(batch, combine="geometric")(jets_of(batch))["loss"].item()
    assert geometric == pytest.approx((jet * origin * vertex) ** (1 / 3), rel=1e-5)


def test_vertices_are_salts(batch):
    """It numbers each track by the lowest of its vertex within the jet."""
    mask = batch["mask"]
    found = vertex_index(torch.sigmoid(batch["pair_logits"]), mask, 0.5)
    theirs = np.split(np.array(SALT["components"]), np.cumsum(mask.sum(1).numpy())[:-1])
    for jet, expected in enumerate(theirs):
        ours = found[jet][mask[jet]].numpy()
        np.testing.assert_array_equal(ours[:, None] == ours, expected[:, None] == expected)


@pytest.mark.parametrize("signal", SALT["discriminants"])
def test_discriminants_and_rejections_are_ftags(signal):
    """Their cut interpolates between two jets of the signal, so that a jet or two may fall on the other side."""
    jets, told = SALT["jets"], SALT["discriminants"][signal]
    names, label = jets["classes"], np.array(jets["label"])
    score = discriminant(np.array(jets["probabilities"]), names, [signal], told["fractions"])
    np.testing.assert_allclose(score, told["score"], rtol=1e-12)
    of_signal = score[label == names.index(signal)]
    for name, expected in told["rejections"].items():
        found = background_rejection(of_signal, score[label == names.index(name)], SALT["efficiency"])
        assert abs(found.n_pass - found.n_background / expected) < 1.5, name


def test_the_batch_has_every_weight_of_pairs(batch):
    origin, mask = batch["origin"], batch["mask"]
    kinds = {tuple(sorted(ORIGINS[k] for k in jet[own].tolist()[:3])) for jet, own in zip(origin, mask, strict=True)}
    assert ("Fake", "Fake", "FromB") in kinds
