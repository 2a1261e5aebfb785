"""Other features: what a backbone knows stays exact, wherever it stands and whatever stands beside it."""

from dataclasses import replace

import pytest
import torch

from jettag.models import build_backbone
from jettag.models.features import adapt_features

from .conftest import random_jets

SETTINGS = {"dim": 16, "embed_dims": [24, 16], "pair_dims": [8], "num_heads": 2, "num_layers": 1, "num_class_layers": 1}
OLD = ("a", "b", "c", "d")
NEW = ("x", "d", "a", "y", "b", "c")


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    found = build_backbone("particle_transformer", "tiny", len(OLD), **SETTINGS)
    norm = found.embedding.norm
    for values in (norm.running_mean, norm.weight.data, norm.bias.data):
        values.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    return found.eval()


def columns(jets, have, want):
    """The jets with the features ``want``, taken by name from those that they ``have``."""
    return replace(jets, features=jets.features[..., [have.index(name) for name in want]])


@pytest.fixture
def wide():
    return random_jets([7, 1, 4, 9, 3], num_features=len(NEW))


@pytest.mark.parametrize("training", [False, True])
def test_the_outputs_are_those_of_the_old_features_in_any_order_beside_any_others(backbone, wide, training):
    backbone.train(training)
    adapted = adapt_features(backbone, OLD, NEW)
    assert (adapted.new, adapted.dropped) == (("x", "y"), ())
    expected = backbone(columns(wide, NEW, OLD))
    found = adapted.backbone(wide)
    torch.testing.assert_close(found.jet, expected.jet, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.constituents, expected.constituents, rtol=0, atol=1e-6)
    noisy = wide.features.clone()
    noisy[..., [0, 3]] += 100.0 * wide.mask[..., None]
    assert torch.equal(adapted.backbone(replace(wide, features=noisy)).jet, found.jet) or training


def test_new_features_learn(backbone, wide):
    adapted = adapt_features(backbone, OLD, NEW).backbone
    adapted(wide).jet.square().sum().backward()
    assert adapted.embedding.joining_linear.weight.grad.abs().min() > 0


@pytest.mark.parametrize("training", [False, True])
def test_a_dropped_feature_is_at_its_mean_in_training(backbone, wide, training):
    adapted = adapt_features(backbone, OLD, ("d", "b"))
    assert adapted.dropped == ("a", "c")
    at_mean = columns(wide, NEW, OLD).features.clone()
    for place in (0, 2):
        at_mean[..., place] = backbone.embedding.norm.running_mean[place] * wide.mask
    backbone.train(training)
    adapted.backbone.train(training)
    expected = backbone(replace(wide, features=at_mean)).jet
    torch.testing.assert_close(adapted.backbone(columns(wide, NEW, ("d", "b"))).jet, expected, rtol=0, atol=1e-5)


def test_an_adapted_network_can_be_adapted_again_and_built_from_its_settings(backbone, wide):
    once = adapt_features(backbone, OLD, NEW).backbone
    with torch.no_grad():
        once.embedding.joining_linear.weight.normal_()
        once.embedding.joining_norm.bias.normal_()
        once.embedding.joining_norm.running_mean.normal_()
    again = type(once)(**once.settings())
    again.load_state_dict(once.state_dict())
    assert torch.equal(again.eval()(wide).jet, once(wide).jet)
    turned = NEW[::-1]
    twice = adapt_features(once, NEW, turned).backbone
    torch.testing.assert_close(twice(columns(wide, NEW, turned)).jet, once(wide).jet, rtol=0, atol=1e-5)
    without = tuple(name for name in NEW if name != "y")
    at_mean = wide.features.clone()
    at_mean[..., NEW.index("y")] = once.embedding.joining_norm.running_mean[1]
    shorter = adapt_features(once, NEW, without).backbone
    expected = once(replace(wide, features=at_mean * wide.mask[..., None])).jet
    torch.testing.assert_close(shorter(columns(wide, NEW, without)).jet, expected, rtol=0, atol=1e-5)
