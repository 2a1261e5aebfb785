"""Learning rates and weight decay: who gets what."""

import math

import pytest
import torch
from timm.optim import param_groups_layer_decay

from jettag.config.recipe import USUAL, TrainingRecipe
from jettag.objectives import Classification
from jettag.training.optim import build_optimizer, rate_factor, set_learning_rate

from ..conftest import make_table
from ..objectives.test_classification import make_model


@pytest.mark.parametrize("name", USUAL)
def test_an_optimizer_that_needs_no_look_into_timm_is_there(name):
    assert build_optimizer(make_model(make_table()), TrainingRecipe(optimizer=name, epochs=1)).param_groups


@pytest.mark.parametrize("schedule", ["cosine", "flat_decay", "constant"])
def test_schedules_rise_then_never_rise_again(schedule):
    recipe = TrainingRecipe(schedule=schedule, warmup_fraction=0.1, epochs=1)
    values = [rate_factor(i / 1000, recipe) for i in range(1001)]
    peak = values.index(max(values))
    assert values[:101] == sorted(values[:101])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert max(values) == pytest.approx(1.0)
    assert values[-1] == pytest.approx(1.0 if schedule == "constant" else recipe.final_rate_fraction)


def test_one_cycle_is_torchs():
    """The same rates as torch.optim.lr_scheduler.OneCycleLR at its defaults, momentum aside."""
    steps, peak = 200, 0.5
    recipe = TrainingRecipe(schedule="one_cycle", warmup_fraction=0.0, final_rate_fraction=1 / 25e4, epochs=1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps + 1, cycle_momentum=False)
    top = 0.3 * (steps + 1) - 1  # where torch, counting steps from 0 to `steps`, puts the peak
    for step in range(steps + 1):
        progress = 0.3 * step / top if step <= top else 0.3 + 0.7 * (step - top) / (steps - top)
        assert peak * rate_factor(progress, recipe) == pytest.approx(peer.get_last_lr()[0], rel=1e-6), step
        optimizer.step()
        peer.step()


def test_cosine_is_the_formula():
    recipe = TrainingRecipe(warmup_fraction=0.0, final_rate_fraction=0.0, epochs=1)
    for x in (0.0, 0.25, 0.5, 0.9):
        assert rate_factor(x, recipe) == pytest.approx(math.cos(math.pi * x / 2) ** 2)


def test_groups_cover_every_parameter_once_and_carry_their_scale(table):
    model: Classification = make_model(table)
    recipe = TrainingRecipe(head_rate_multiplier=5.0, weight_decay=0.1, epochs=1)
    optimizer = build_optimizer(model, recipe)
    names = {id(p): name for name, p in model.named_parameters()}
    seen = [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
    assert sorted(seen) == sorted(names.values())
    set_learning_rate(optimizer, 1e-3)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert group["lr"] == pytest.approx(1e-3 if name.startswith("backbone.") else 5e-3), name
            exempt = parameter.ndim == 1 or name.removeprefix("backbone.") in model.backbone.no_weight_decay()
            assert group["weight_decay"] == (0.0 if exempt else 0.1), name


def test_layer_decay_is_timms(table):
    model: Classification = make_model(table, {"num_layers": 3})
    recipe = TrainingRecipe(layer_decay=0.5, head_rate_multiplier=3.0, epochs=1)
    groups = build_optimizer(model, recipe).param_groups
    found = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    peer = {
        id(p): group["lr_scale"]
        for group in param_groups_layer_decay(model.backbone, layer_decay=0.5)
        for p in group["params"]
    }
    assert {0.5**depth for depth in range(4)} == set(peer.values())  # embedding, three blocks
    assert found == peer | {id(p): 3.0 for p in model.head.parameters()}
