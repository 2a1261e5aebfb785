"""What a resumed run may be told anew, and what it may not: every key of a recipe is on one side."""

import json

import pytest
import yaml

from jettag.config.recipe import load_any_recipe
from jettag.errors import CheckpointError
from jettag.training.run_directory import refuse_another

MAY_CHANGE = {
    *("description", "training.epochs", "training.max_steps", "training.patience", "training.keep_checkpoints"),
    *("training.val_every", "training.log_every", "probe.classes", "probe.jets"),
    *("training.parallel", "data.prefetch", "data.workers"),
}
PROBED = ["probe={classes: [QCD, Tbqq], jets: 200}"]


def leaves(values, path=""):
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def changed(recipe, dotted):
    """The recipe with another value at a key."""
    copy = json.loads(json.dumps(recipe))
    place, *rest = copy, *dotted.split(".")
    for key in rest[:-1]:
        place = place[key]
    place[rest[-1]] = "another"
    return copy


RECIPES = {"mpm": load_any_recipe("mpm", PROBED), "top": load_any_recipe("top"), "flavour": load_any_recipe("flavour")}
RECIPES = {name: recipe.model_dump(mode="json") for name, recipe in RECIPES.items()}


@pytest.fixture(params=RECIPES)
def begun(request, tmp_path):
    """A run that began with a shipped recipe."""
    recipe = RECIPES[request.param]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "run.json").write_text(json.dumps({"inputs": []}))
    return tmp_path, recipe


def test_what_changes_no_number_of_a_step_may_change_and_nothing_else(begun):
    run, recipe = begun
    refuse_another(run, recipe, [])
    for key in leaves(recipe):
        if key in MAY_CHANGE:
            refuse_another(run, changed(recipe, key), [])
        else:
            with pytest.raises(CheckpointError, match=f"{key}: .* then, another now"):
                refuse_another(run, changed(recipe, key), [])


def test_a_probe_may_come_and_go(begun):
    run, recipe = begun
    if "probe" in recipe:
        refuse_another(run, {**recipe, "probe": None}, [])
        (run / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "probe": None}))
        refuse_another(run, recipe, [])
