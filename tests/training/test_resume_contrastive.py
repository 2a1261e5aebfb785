"""Contrastive and joint pre-training: resumed equals uninterrupted, to the bit."""

import os
import signal

import pytest
import torch

from jettag.config.objectives import ContrastiveRecipe, JointRecipe
from jettag.errors import Stopped
from jettag.models import build_backbone
from jettag.objectives.build import JetsAre, build_objective
from jettag.training import load_last_good

from ..objectives.test_joint import SMALL
from ..objectives.test_masked import TINY
from .test_loop import RECIPE, losses, make_trainer, run_to

RECIPES = {"contrastive": ContrastiveRecipe(), "joint": JointRecipe.model_validate({"masked": SMALL})}


def make(table, name):
    torch.manual_seed(0)
    backbone = build_backbone("particle_transformer", "tiny", len(table.feature_names), **TINY)
    model = build_objective(RECIPES[name], backbone, JetsAre(table.feature_names, 14))
    model.prepare(table, seed=0)
    pieces = {"contrastive": 2, "joint": 1}[name]
    return make_trainer(table, RECIPE.model_copy(update={"accumulate": pieces}), model=model)


@pytest.mark.parametrize("name", RECIPES)
def test_resumed_equals_uninterrupted(tmp_path, table, name):
    whole = make(table, name)
    run_to(whole, tmp_path / "whole", 12)
    calls = iter(range(100))

    def interrupt(_record):
        if next(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        run_to(make(table, name), tmp_path / "parts", 12, log=interrupt)
    second = make(table, name)
    second.restore(load_last_good(tmp_path / "parts", print))
    assert 0 < second.step < 12
    run_to(second, tmp_path / "parts", 12)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[key]), key
