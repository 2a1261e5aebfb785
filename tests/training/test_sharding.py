"""Sharded over two processes: the losses of one, checkpoints that anybody resumes, errors where it cannot be done."""

import json

import pytest
import torch

from jettag.config.recipe import TrainingRecipe
from jettag.errors import RecipeError, Stopped
from jettag.training import load_last_good
from jettag.training.distributed import ALONE, World
from jettag.training.sharding import refuse_unshardable

from . import spread
from .test_distributed import records, spread_run

FSDP = {"parallel": "fsdp"}
CUT = {"objective": "classification", "double": True, "steps": 12}


def assert_same(one, other, tolerance):
    a, b = records(one), records(other)
    assert [line["step"] for line in a] == [line["step"] for line in b]
    for x, y in zip(a, b, strict=True):
        assert x.keys() == y.keys()
        for name in x.keys() & {"loss", "val_loss"}:
            assert y[name] == pytest.approx(x[name], abs=tolerance), (name, x["step"])
        if "gradient_norm" in x:
            assert y["gradient_norm"] == pytest.approx(x["gradient_norm"], rel=1e-4), x["step"]


def programs(folder):
    return json.loads((folder / "programs.json").read_text())


def test_sharded_is_one_process_in_losses_and_checkpoints(tmp_path):
    """Averages, clipping, pieces of a batch and batch statistics included; a run begun by one goes on sharded.

    So does a sharded run whose blocks are compiled, which makes as many programs as one process does.
    """
    with pytest.raises(Stopped):
        spread.run(**CUT, folder=tmp_path / "begun-by-one", world=ALONE, term_at=(0, 5))
    masked = {"objective": "masked", "folder": str(tmp_path / "two-masked")}
    pieces = {**CUT, "accumulate": 3, "folder": str(tmp_path / "two-pieces")}
    compiled = {**CUT, "compile": True, "folder": str(tmp_path / "two-compiled")}
    begun = {**CUT, "folder": str(tmp_path / "begun-by-one")}
    spread_run(*({**call, **FSDP} for call in (masked, pieces, compiled, begun)))

    spread.run(**CUT, folder=tmp_path / "one", world=ALONE)
    assert_same(tmp_path / "one", tmp_path / "begun-by-one", 1e-6)
    spread.run(**{**compiled, "folder": tmp_path / "one-compiled"}, world=ALONE)
    assert_same(tmp_path / "one", tmp_path / "two-compiled", 1e-6)
    assert programs(tmp_path / "two-compiled") == programs(tmp_path / "one-compiled") > 0
    spread.run(**{**masked, "folder": tmp_path / "one-masked"}, world=ALONE)
    assert_same(tmp_path / "one-masked", tmp_path / "two-masked", 1e-5)  # single precision: see test_distributed
    before = [json.loads((tmp_path / run / "before.json").read_text()) for run in ("one-masked", "two-masked")]
    assert before[1] == pytest.approx(before[0], rel=1e-6)

    alone, sharded = (load_last_good(tmp_path / run, pytest.fail) for run in ("one", "begun-by-one"))
    for part in ("model", "ema", "optimizer"):
        a, b = getattr(alone, part), getattr(sharded, part)
        own = {name for name in b if name.startswith("rng.cpu.")}
        assert a.keys() - own == b.keys() - own
        for name in a.keys() - own:
            torch.testing.assert_close(b[name], a[name], rtol=1e-5, atol=1e-6, msg=name)
    # Pieces have their own batch statistics, those of the same jets.
    spread.run(**{**pieces, "folder": tmp_path / "one-pieces"}, world=ALONE)
    assert_same(tmp_path / "one-pieces", tmp_path / "two-pieces", 1e-9)


def test_a_sharded_run_that_is_told_to_stop_is_finished_by_one_process(tmp_path):
    common = {**CUT, "folder": str(tmp_path / "parts")}
    code, _, err = spread_run({**common, **FSDP, "term_at": [1, 7]}, check=False)
    assert code != 0
    assert err.count("stopped at step 8 of 12, saved") == 2, err
    spread.run(**{**common, "folder": tmp_path / "parts"}, world=ALONE)
    spread.run(**{**common, "folder": tmp_path / "whole"}, world=ALONE)
    assert_same(tmp_path / "whole", tmp_path / "parts", 1e-6)


@pytest.mark.parametrize(("changes", "device"), [({"optimizer": "muon"}, "cpu"), ({}, "mps")])
def test_what_cannot_be_sharded_is_refused_in_one_line_and_only_there(changes, device):
    recipe = TrainingRecipe(**FSDP, **changes)
    refuse_unshardable(recipe, torch.device(device), ALONE)
    refuse_unshardable(recipe.model_copy(update={"parallel": "ddp"}), torch.device(device), World(0, 2))
    with pytest.raises(RecipeError, match=r"training\.parallel=fsdp"):
        refuse_unshardable(recipe, torch.device(device), World(0, 2))
