"""The plain network is the network: every kind of head, pooling and adaptation."""

import pytest
import torch

from jettag.models import build_backbone
from jettag.models.features import adapt_features
from jettag.models.heads import AttentiveHead, ClassHead
from jettag.models.plain import PlainTagger
from jettag.objectives import Classification

from .test_adapters import SETTINGS

CHANGES = [
    {},
    {"pair_dims": []},
    {"num_class_layers": 0},
    {"num_class_layers": 2, "pair_activation": False, "pair_dims": [8, 8]},
    {"num_class_layers": 1, "num_registers": 2, "num_layers": 3, "summary_blocks": 3},
]


def shaken(backbone):
    """Statistics, scales and biases as training would leave them."""
    with torch.no_grad():
        for value in backbone.parameters():
            value.add_(0.1 * torch.randn_like(value))
        for name, value in backbone.named_buffers():
            if "running" in name:
                value.add_(torch.rand_like(value))
    return backbone


def agree(backbone, jets, **head):
    model = Classification(backbone, 3, **head).eval()
    expected = torch.softmax(model.logits(jets), 1)
    plain = PlainTagger(backbone, model.head)
    found = plain(jets.features, jets.p4, jets.mask)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    return plain, found


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize("head", [{}, {"head_hidden": (8,)}, {"attentive": True}], ids=str)
def test_plain_equals_packed(changes, head, jets):
    torch.manual_seed(0)
    agree(shaken(build_backbone("particle_transformer", "tiny", 17, **{**SETTINGS, **changes})), jets, **head)


def test_other_features_too(jets):
    torch.manual_seed(0)
    old, new = [f"f{i}" for i in range(9)], [f"f{i}" for i in range(24, 7, -1)]
    backbone = shaken(build_backbone("particle_transformer", "tiny", 9, **SETTINGS))
    agree(shaken(adapt_features(backbone, old, new).backbone), jets)


def test_padding_does_not_matter_and_a_jet_without_constituents_has_probabilities(jets):
    torch.manual_seed(0)
    backbone = shaken(build_backbone("particle_transformer", "tiny", 17, **SETTINGS))
    plain, found = agree(backbone, jets)
    hidden = ~jets.mask[..., None]
    noisy = plain(jets.features.masked_fill(hidden, 9.0), jets.p4.masked_fill(hidden, torch.nan), jets.mask)
    assert torch.equal(noisy, found)
    empty = plain(jets.features, jets.p4, torch.zeros_like(jets.mask))
    assert empty.isfinite().all()
    assert isinstance(plain.head, ClassHead)
    assert not isinstance(plain.head, AttentiveHead)
