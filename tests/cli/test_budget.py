"""Token budget and prefetching by recipe: what they change, what they do not, and what is refused."""

import json

import pytest

from jettag.config.recipe import FinetuneRecipe
from jettag.errors import RecipeError
from jettag.training import session
from jettag.training.distributed import World

from ..training.test_distributed import records
from .conftest import SMALL, SMALL_DECODER

BUDGET = ["--set", "data.max_tokens=60", "--set", "data.max_constituents=12"]


@pytest.fixture
def train(files, call_json, tmp_path):
    def call(name, *words):
        common = ["pretrain", "mpm", "--data", files / "train" / "*.root", *SMALL, *SMALL_DECODER, *BUDGET]
        call_json(*common, "--set", "training.log_every=1", "--out", tmp_path / name, *words)
        return tmp_path / name

    return call


def test_prefetching_changes_no_number_and_may_change_on_resume(train):
    settings = ("training.accumulate=3", "training.schedule=constant", "training.warmup_fraction=0")
    constant = [word for setting in settings for word in ("--set", setting)]
    plain = train("plain", *constant, "--set", "data.prefetch=0", "--max-steps", 12)
    train("fast", *constant, "--set", "data.prefetch=3", "--max-steps", 5)
    fast = train("fast", *constant, "--set", "data.prefetch=1", "--max-steps", 12, "--resume")
    one, other = ([line for line in records(run) if "val_loss" not in line] for run in (plain, fast))
    assert one == other


def test_an_epoch_of_a_budget_has_every_jet(train):
    run = train("epoch", "--set", "training.epochs=1", "--set", "data.val_fraction=0.1")
    facts = json.loads((run / "run.json").read_text())
    jets = [line["jets"] for line in records(run) if "jets" in line]
    # All jets are one window here, so the estimate of an epoch's batches is exact.
    assert jets[-1] == facts["n_train"]
    assert facts["steps"] > facts["n_train"] / 32  # more batches than without the budget


def test_budgets_that_cannot_be_are_refused_before_a_file_is_read(jettag):
    code, _, err = jettag("validate", "mpm", "--set", "data.max_tokens=100")
    assert code == 3
    assert "max_tokens 100 is less than the 128 constituents of one jet" in err
    code, _, err = jettag("validate", "mpm", "--set", "data.prefetch=-1")
    assert code == 3
    assert jettag("validate", "mpm", "--set", "data.max_tokens=4096", "--set", "data.prefetch=0")[0] == 0


def test_a_budget_leaves_every_process_jets():
    recipe, enough = (
        FinetuneRecipe.model_validate({"classes": ["QCD", "Tbqq"], "data": {"max_tokens": n}}) for n in (511, 512)
    )
    assert session._max_tokens(recipe, 64, World(0, 1)) == 511
    with pytest.raises(RecipeError, match=r"max_tokens=511 for 2 processes and jets of 128; set it to 512"):
        session._max_tokens(recipe, 64, World(0, 2))
    assert session._max_tokens(enough, 64, World(0, 2)) == 512
    with pytest.raises(RecipeError, match=r"set data.batch_size to 4"):
        session._max_tokens(enough, 3, World(0, 2))


def test_every_piece_of_a_batch_has_a_jet(files, jettag, tmp_path):
    common = ["pretrain", "mpm", "--data", files / "train" / "*.root", *SMALL, *SMALL_DECODER, "--max-steps", 1]
    common += ["--set", "data.batch_size=8", "--out", tmp_path / "run", "--set"]
    code, _, err = jettag(*common, "training.accumulate=9")
    assert code == 3
    assert "training.accumulate=9 pieces of the 8 jets that a process has of a batch; set it to 8 or less" in err
    assert jettag(*common, "training.accumulate=8")[0] == 0
