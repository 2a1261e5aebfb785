"""Training on batches that travel packed is training on padded ones, to the bit, with every objective."""

import pytest
import torch

from jettag.data.jets import PackedJets
from jettag.data.loader import Loader
from jettag.objectives.masks import PATTERNS
from jettag.objectives.phases import FROZEN
from jettag.training import Limits, train
from jettag.training.precompute import embedded

from ..conftest import make_table
from ..data.test_packed import META, assert_same
from ..objectives.test_classification import make_model as make_classifier
from ..objectives.test_flavour import make_model as make_flavour
from ..objectives.test_flavour import truth_table
from ..objectives.test_masked import make_model as make_masked
from .test_loop import RECIPE, losses, make_trainer
from .test_trainer import MODELS

CPU = torch.device("cpu")
KINDS = {
    **MODELS,
    "flavour": make_flavour,
    **{pattern: lambda table, p=pattern: make_masked(table, mask_pattern=p) for pattern in sorted(PATTERNS)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_weights_are_those_of_padded_batches(tmp_path, kind):
    """The loader makes batches for another device; the trainer and validation are on the CPU all the same."""
    table, val = (truth_table(100), truth_table(40, seed=9)) if kind == "flavour" else (make_table(100), make_table(40))
    models = []
    for device in (CPU, META):
        torch.manual_seed(0)
        model = KINDS[kind](table)
        recipe = RECIPE.model_copy(update={"accumulate": 2, "log_every": 1, "val_every": 3})
        trainer = make_trainer(table, recipe, model=model)
        trainer.loader = Loader(table, batch_size=32, seed=0, pieces=2, device=device)
        folder = tmp_path / device.type
        folder.mkdir()
        torch.manual_seed(1)
        train(trainer, val, Limits(6), folder, seed=0, log=lambda _: None, note=lambda _: None)
        models.append(trainer.model.state_dict())
    assert losses(tmp_path / "meta") == losses(tmp_path / "cpu")
    for name, value in models[0].items():
        assert torch.equal(value, models[1][name]), name


@pytest.mark.parametrize("attentive", [False, True])
def test_embeddings_travel_packed(table, attentive):
    model = make_classifier(table, phases=FROZEN, attentive=attentive)
    quick = embedded(table, model, CPU, lambda _: None)
    plain, packing = (Loader(quick, batch_size=32, seed=3, device=device) for device in (CPU, META))
    for step in range(6):
        if step == 3:
            model.phases = type(model.phases)(frozen=0.5)
            model.enter(0.9)  # the jets themselves from here on, though the window was opened before
        packed, expected = next(packing), next(plain)
        assert isinstance(packed, PackedJets)
        assert (expected.embedding is not None) == (step < 3)
        assert_same(packed.pad(), expected)
