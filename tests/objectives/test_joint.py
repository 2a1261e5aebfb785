import pytest
import torch

from jettag.config.objectives import JointRecipe
from jettag.models import build_backbone
from jettag.objectives.build import JetsAre, build_objective

from .test_contrastive import true_batch
from .test_masked import TINY

SMALL = {
    "target": {"name": "kmeans", "codes": 8, "fit_constituents": 100},
    "decoder": {"dim": 16, "layers": 1, "heads": 2},
}


def make(target=None, registers=0, **weights):
    batch, chosen = true_batch(jets=40)
    masked = SMALL | ({"target": target} if target else {})
    recipe = JointRecipe.model_validate({"masked": masked, **weights})
    torch.manual_seed(0)
    backbone = build_backbone("particle_transformer", "tiny", len(chosen.names), **TINY, num_registers=registers)
    model = build_objective(recipe, backbone, JetsAre(chosen.names, 16))
    return model, batch


class Sample:
    """A table of which only a sample of features is asked."""

    def __init__(self, batch):
        self.rows = batch.features[batch.mask].numpy()

    def sample_features(self, constituents, seed):
        return self.rows


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("target", [None, {"name": "flow", "fit_constituents": 100}])
def test_the_loss_is_the_weighted_sum_and_reaches_every_parameter(target, registers):
    model, batch = make(target, registers, masked_weight=0.5, contrastive_weight=2.0)
    model.prepare(Sample(batch), seed=0)
    losses = model(batch, torch.Generator().manual_seed(0))
    hiding = (batch.mask.sum(1) > 1).sum() / len(batch)
    expected = 0.5 * losses["masked_loss"] * hiding + 2.0 * losses["contrastive_loss"]
    torch.testing.assert_close(losses["loss"].detach(), expected)
    losses["loss"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert len(losses["weight"]) == len(losses) - 1


def test_every_tensor_stands_once():
    model, _ = make()
    storages = [value.data_ptr() for value in model.state_dict().values() if value.numel()]
    assert len(storages) == len(set(storages))
    assert sum(name.startswith("backbone.") for name in model.state_dict()) > 10


def test_the_same_draw_gives_the_same_loss():
    model, batch = make()
    model.prepare(Sample(batch), seed=0)
    model.eval()
    drawn = model.draw(batch, torch.Generator().manual_seed(1))
    assert model(batch, drawn=drawn)["loss"] == model(batch, drawn=drawn)["loss"]
