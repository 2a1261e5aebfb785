"""LoRA: nothing changes at first, merging changes nothing, slices are what they say."""

import copy

import pytest
import torch

from jettag.errors import CheckpointError, RecipeError
from jettag.models import build_backbone
from jettag.models.adapters import TARGETS, LowRankUpdate, adapters, add_lora, draw_dropout, merge_lora

SETTINGS = {"dim": 16, "embed_dims": [16], "pair_dims": [8], "num_heads": 2, "num_layers": 2, "num_class_layers": 1}


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return build_backbone("particle_transformer", "tiny", 17, **SETTINGS).eval()


def shaken(backbone):
    """Updates as training would leave them, not zero."""
    with torch.no_grad():
        for update in adapters(backbone):
            update.lora_b.normal_(std=0.3)
    return backbone


def test_an_adapted_network_begins_as_the_network_it_was(backbone, jets):
    before = backbone(jets)
    add_lora(backbone, rank=4, targets=list(TARGETS))
    after = backbone(jets)
    assert torch.equal(after.jet, before.jet)
    assert torch.equal(after.constituents, before.constituents)


@pytest.mark.parametrize("targets", [("q",), ("k", "out"), ("q", "v"), tuple(TARGETS)])
def test_merged_equals_unmerged_and_is_a_plain_network(backbone, jets, targets):
    names = set(backbone.state_dict())
    plain = copy.deepcopy(backbone)
    add_lora(backbone, rank=3, alpha=6.0, targets=targets)
    adapted = shaken(backbone)(jets).jet
    assert not torch.allclose(adapted, plain(jets).jet, atol=1e-3)
    merged = merge_lora(backbone)
    torch.testing.assert_close(merged(jets).jet, adapted, rtol=1e-5, atol=1e-5)
    assert set(merged.state_dict()) == names
    assert not list(adapters(merged))
    for place, block in enumerate((*merged.blocks, *merged.class_blocks)):
        original = (*plain.blocks, *plain.class_blocks)[place]
        for target, (layer, part, parts) in TARGETS.items():
            new, old = (getattr(b, layer).weight.chunk(parts)[part] for b in (block, original))
            difference = new - old
            assert (torch.linalg.matrix_rank(difference, rtol=1e-4) == 3) == (target in targets), target
            assert torch.equal(new, old) == (target not in targets), target


def test_the_update_is_the_papers_formula():
    update = LowRankUpdate(6, 5, slices=(0, 2), num_slices=3, rank=2, alpha=8.0).eval()
    torch.nn.init.normal_(update.lora_b)
    weight = torch.randn(6, 5)
    found = update(weight)
    for part in range(3):
        expected = weight[2 * part : 2 * part + 2].clone()
        if part in (0, 2):
            place = (0, 2).index(part)
            expected += 8.0 / 2 * update.lora_b[place] @ update.lora_a[place]
        torch.testing.assert_close(found[2 * part : 2 * part + 2], expected)


def test_dropout_hides_inputs_at_its_rate_and_only_in_training():
    update = LowRankUpdate(4, 4000, rank=1, dropout=0.25)
    torch.nn.init.ones_(update.lora_b)
    whole = update.eval()(torch.zeros(4, 4000))
    update.train().draw()
    dropped = update(torch.zeros(4, 4000))
    hidden = (dropped == 0).float().mean().item()
    assert hidden == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(dropped[dropped != 0], whole[dropped != 0] / 0.75)
    assert torch.equal(update(torch.zeros(4, 4000)), dropped)  # the same until it is drawn again
    assert torch.equal(update.eval()(torch.zeros(4, 4000)), whole)


def test_every_update_gets_a_gradient_also_where_activations_are_computed_again(jets):
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        backbone = build_backbone("particle_transformer", "tiny", 17, **SETTINGS, checkpointing=checkpointing)
        add_lora(backbone, rank=2, dropout=0.2)
        shaken(backbone).eval()
        for update in adapters(backbone):
            update.train()
        draw_dropout(backbone)
        backbone(jets).jet.square().sum().backward()
        gradients.append({name: p.grad for name, p in backbone.named_parameters() if "lora_" in name})
    for name, gradient in gradients[0].items():
        assert gradient.abs().sum() > 0, name
        torch.testing.assert_close(gradients[1][name], gradient)


def test_what_cannot_be_done_is_refused(backbone):
    with pytest.raises(CheckpointError, match="no low-rank updates"):
        merge_lora(backbone)
    with pytest.raises(RecipeError, match="unknown target"):
        add_lora(backbone, targets=["qkw"])
