"""A network as the classifier of mixed samples: `jettag finetune` on jets whose label is the sample they stand in."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jettag.config.recipe import FinetuneRecipe
from jettag.data.jets import JetTable, concatenate
from jettag.data.splits import hold_out
from jettag.errors import RecipeError
from jettag.runs.common import Opened
from jettag.runs.finetuning import finetune
from jettag.runs.inference import probabilities
from jettag.runs.weak_data import Pools
from jettag.training import load_tagger
from jettag.training.devices import choose_device
from jettag.training.precompute import KNOWN
from jettag.training.run_directory import read_run
from jettag.weak.measures import argos
from jettag.weak.mixtures import Mixture

__all__ = ["train_network"]


def train_network(
    recipe: FinetuneRecipe,
    pools: Pools,
    mixture: Mixture,
    run: Path,
    pretrained: Path | None,
    *,
    seed: int,
    device: str,
) -> tuple[npt.NDArray[np.float64], dict[str, float]]:
    """Train on M1 against M2 in the folder ``run``, or go on with what is there.

    From scratch the whole network is trained from the first step on, in mode lpft for as many steps as it leaves to the
    whole network.

    Returns:
        The probability of M1 for each test jet, background first; ARGOS on the held-out part of the mixtures.

    Raises:
        RecipeError: the recipe has not two classes, the first of them the sample with more signal.
    """
    if len(recipe.classes) != 2:
        raise RecipeError(f"{len(recipe.classes)} classes where two samples are mixed", where="classes")
    recipe = recipe.model_copy(update={"seed": seed})
    if pretrained is None:
        recipe = _from_scratch(recipe)
    table = _mixed(pools, mixture, tuple(recipe.classes), embedded=pretrained is not None)
    train, held = hold_out(table, recipe.data.val_fraction, seed)
    chosen = choose_device(device)
    if not ((run / "run.json").is_file() and read_run(run).get("finished")):
        jets = Opened(train, held, pools.card, pools.inputs, [])
        finetune(recipe, jets, run, pretrained=pretrained, device=device, resume=True, pictures=False)
    tagger = load_tagger(run)

    def score(jets: JetTable) -> npt.NDArray[np.float64]:
        return probabilities(tagger, jets, chosen)[:, 0]

    found = read_run(run).get("best_val_argos")  # of the same weights and jets
    if found is None:  # the loss chose them
        assert isinstance(held, JetTable)  # of one in memory
        assert held.label is not None  # `_mixed` sets them
        unseen = score(held)
        found = argos(unseen[held.label == 0], unseen[held.label == 1])
    tests = [pool.jets for pool in (pools.test_background, pools.test_signal) if pool.jets is not None]
    return np.concatenate([score(jets) for jets in tests]), {"argos": found}


def _from_scratch(recipe: FinetuneRecipe) -> FinetuneRecipe:
    steps = recipe.training.max_steps
    if recipe.mode == "lpft" and steps is not None:
        steps = max(round(steps * (1 - recipe.adaptation.lpft.probe_share)), 1)
    training = recipe.training.model_copy(update={"max_steps": steps})
    return recipe.model_copy(update={"mode": "full", "training": training})


def _mixed(pools: Pools, mixture: Mixture, class_names: tuple[str, ...], *, embedded: bool) -> JetTable:
    """The jets of both samples; their label is the sample, 0 for the richer one, and nothing tells the true class.

    Where the backbone that is fine-tuned has ``embedded`` them, it need not embed them again.
    """
    drawn = ((pools.background, mixture.background), (pools.signal, mixture.signal))
    jets = concatenate([pool.jets.select(rows) for pool, rows in drawn if pool.jets is not None])
    label = 1 - mixture.label
    shuffled = np.random.default_rng(len(label)).permutation(len(label))
    known: dict[str, npt.NDArray] = {}
    both = [pool.network_embedding[rows] for pool, rows in drawn if pool.network_embedding is not None]
    if embedded and len(both) == len(drawn):
        known[KNOWN] = np.concatenate(both)[shuffled]
    return replace(jets.select(shuffled), label=label[shuffled], class_names=class_names, jet=known)
