"""What a step of training does on an accelerator instead of waiting for it; `test_standin` has every recipe."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from jettag.config.loading import read_yaml
from jettag.config.recipe import TrainingRecipe, load_any_recipe
from jettag.config.shipped import list_shipped
from jettag.config.study import STUDIES
from jettag.errors import DivergenceError
from jettag.models import build_backbone
from jettag.objectives import Classification
from jettag.objectives.build import JetsAre, build_objective, build_tokenizer
from jettag.objectives.phases import Phases
from jettag.objectives.tokenizer import Tokenizer
from jettag.training import Limits
from jettag.training.optim import unchanged_if

from ..conftest import make_table
from ..objectives.test_flavour import REGRESSION, truth_table
from ..objectives.test_flavour import make_model as make_flavour
from .test_loop import make_trainer

MODES = {  # of fine-tuning, beside the one that trains everything
    "attentive": {"attentive": True, "phases": Phases(frozen=1.0)},
    "lpft": {"phases": Phases(frozen=0.05, restart=True)},  # the backbone is set free at the second of ten steps
    "lora": {"lora": {"rank": 2}},
}
CODEBOOK = {"cosine": True, "decay": 0.9, "impact": True}


def shipped(name, mode=None, drop=0.1):
    """The objective of a shipped recipe on the smallest backbone, and jets for it."""
    recipe = load_any_recipe(name)
    if name == "flavour":
        table = truth_table(40)
        return make_flavour(table, {"class_weight": [1.0, 3.0, 0.5]}, regression=REGRESSION), table
    features = recipe.data.features
    table = make_table(40, features="jetclass_full" if features == "auto" else features)
    drops = {"dropout": drop, "attention_dropout": drop, "drop_path": drop, "num_layers": 2}
    jets = JetsAre(table.feature_names, recipe.data.max_constituents, table.class_names)
    if recipe.objective.name == "tokenizer":
        return build_tokenizer(recipe.objective, jets), table
    if name == "mpm-observables":
        columns = recipe.objective.observables.columns
        values = dict(zip(columns, np.random.default_rng(0).uniform(0.1, 1, (len(columns), len(table))), strict=True))
        table = replace(table, jet=values, batch_columns=columns)
    backbone = build_backbone("particle_transformer", "tiny", len(table.feature_names), **drops)
    if recipe.command == "finetune":
        return Classification(backbone, 2, **MODES.get(mode, {})), table
    if name == "mpm-vqvae":
        small = Tokenizer(table.feature_names, codes=8, latent=4, width=16, layers=1, heads=2, **CODEBOOK)
        jets = JetsAre(table.feature_names, recipe.data.max_constituents, tokenizer=(small, "0" * 64))
    return build_objective(recipe.objective, backbone, jets), table


TRAININGS = [name for name, path in list_shipped("recipes").items() if read_yaml(path)["command"] not in STUDIES]
EVERY = [*((name, None, "adamw") for name in TRAININGS), *(("top", mode, "lion") for mode in MODES)]


@pytest.mark.parametrize(("optimizer", "waits"), [("adamw", False), ("lion", True)])
def test_in_half_precision_adamw_asks_nobody_whether_gradients_overflowed(table, monkeypatch, optimizer, waits):
    recipe = TrainingRecipe(precision="fp16", optimizer=optimizer)
    trainer = make_trainer(table, recipe)
    trainer.looks_at_each_step = False  # as on every accelerator

    def asked(_):
        raise AssertionError("asked")

    monkeypatch.setattr(torch.Tensor, "item", asked)
    with pytest.raises(AssertionError, match="asked") if waits else contextlib.nullcontext():
        trainer.update(Limits(10))


@pytest.mark.parametrize("optimizer", ["adamw", "lion", "muon", "ranger", "sgd"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_accelerator_leaves_out_a_step_that_is_not_finite_and_all_after_it(table, optimizer, precision):
    """To the bit, and neither before nor once the numbers were looked at."""
    good = table.features.copy()
    trainer = make_trainer(table, TrainingRecipe(precision=precision, optimizer=optimizer, ema_decay=None))
    trainer.looks_at_each_step = False
    if precision == "fp16":
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=16.0)  # nothing overflows

    def after(features):
        table.features[:] = features
        trainer.update(Limits(10))
        return [x.detach().clone() for x in trainer.model.parameters()]

    def same(one, other):
        return all(map(torch.equal, one, other))

    first, second = after(good), after(good)
    assert not same(first, second)
    assert same(second, after(np.nan))
    assert same(second, after(good))
    assert all(torch.isfinite(x).all() for x in second)
    with pytest.raises(DivergenceError, match="at step 2 "):
        trainer.refuse_divergence()


def test_bits_come_back_through_numbers_that_are_not_finite():
    numbers = [torch.tensor([1.5, -0.0, torch.inf, torch.nan]).to(kind) for kind in (torch.float32, torch.bfloat16)]
    numbers += [torch.arange(6, dtype=torch.float64).view(2, 3).T, torch.tensor(0.1), torch.empty(0)]
    before = [x.clone() for x in numbers]
    for bad in (True, False):
        with unchanged_if(torch.tensor(bad), numbers):
            for x in numbers:
                x.fill_(torch.nan)
        kept = [torch.equal(x.nan_to_num(7.0), y.nan_to_num(7.0)) for x, y in zip(numbers, before, strict=True)]
        assert kept == ([True] * 5 if bad else [False] * 4 + [True])  # of nothing all is equal
        assert torch.signbit(before[0][1])
