import torch

from jettag.models import build_backbone
from jettag.training.probe import Probe

from ..conftest import make_table
from ..objectives.test_masked import TINY


class Spread(torch.nn.Module):
    """An embedding that holds what tells the classes of `make_table` apart."""

    summary_dim = 2

    def forward(self, jets):
        width = (jets.features[..., -2].abs() * jets.mask).sum(1) / jets.mask.sum(1)
        return type("Encoded", (), {"summary": torch.stack([width, torch.ones_like(width)], 1)})()


def test_a_telling_embedding_is_told_from_an_empty_one():
    probe = Probe(make_table(1000), 0)
    told = probe(Spread(), torch.device("cpu"))
    assert told["probe_auc"] > 0.85
    assert told["probe_accuracy"] > 0.75
    empty = Spread()
    empty.forward = lambda jets: type("Encoded", (), {"summary": torch.ones(len(jets), 2)})()
    assert abs(probe(empty, torch.device("cpu"))["probe_auc"] - 0.5) < 1e-9


def test_the_probe_leaves_the_backbone_and_every_draw_as_they_were():
    table = make_table(200)
    torch.manual_seed(0)
    backbone = build_backbone("particle_transformer", "tiny", len(table.feature_names), **TINY).train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    state = torch.get_rng_state()
    Probe(table, 0)(backbone, torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), state)
    assert backbone.training
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in backbone.parameters())
