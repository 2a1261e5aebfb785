"""Strict YAML, overrides and validation: what is wrong is said, all of it, in one line."""

import shlex

import pytest

from jettag.config import Section, apply_overrides, dump_yaml, find, list_shipped, read_yaml, validate
from jettag.config.recipe import FinetuneRecipe, PretrainRecipe, load_any_recipe, load_recipe
from jettag.config.study import STUDIES
from jettag.errors import CardError, RecipeError, UsageError, nearest

SCHEMAS = {"pretrain": PretrainRecipe, "finetune": FinetuneRecipe}


@pytest.mark.parametrize("name", list_shipped("recipes"))
def test_shipped_recipes_are_valid_and_survive_a_round_trip(name, tmp_path):
    recipe = load_any_recipe(name)
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump_yaml(recipe))
    # What was measured is of the recipe as it is shipped: a run, whose recipe may differ, does not carry it.
    assert load_any_recipe(str(copy)) == recipe.model_copy(update={"measured": None})


RUNS = [name for name, path in list_shipped("recipes").items() if read_yaml(path)["command"] not in STUDIES]


@pytest.mark.parametrize("name", RUNS)
def test_every_shipped_recipe_says_what_a_small_run_of_it_costs_and_where_it_ends(name):
    measured = load_any_recipe(name).measured
    assert measured is not None
    words = shlex.split(measured.command)
    assert words[:2] == ["jettag", load_any_recipe(name).command]
    assert name in words
    changes = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert load_any_recipe(name, changes).seed == 0  # the command's changes are possible ones
    assert words[words.index("--max-steps") + 1] == str(measured.steps)
    assert all(word.startswith("jettag generate ") for word in measured.data)
    assert 0 < measured.cpu_minutes < 10


def keys_of(values, path=""):
    return {
        name
        for key, value in values.items()
        for name in (keys_of(value, f"{path}{key}.") if isinstance(value, dict) and value else {f"{path}{key}"})
    }


PRETRAINING = [name for name in list_shipped("recipes") if read_yaml(find("recipes", name))["command"] == "pretrain"]


@pytest.mark.parametrize("name", ["top", "weak", "flavour", *PRETRAINING])
def test_every_key_stands_in_a_shipped_recipe_with_a_comment(name):
    """Only what the objective refuses or has no use for is left out."""
    path, recipe = find("recipes", name), load_any_recipe(name)
    unused = set() if name in ("top", "weak", "flavour", "supervised") else {"classes"}
    if name == "tokenizer":
        unused |= {"backbone.name", "backbone.size", "backbone.settings", "probe", "training.layer_decay"}
    assert keys_of(recipe.model_dump(mode="json")) - keys_of(read_yaml(path)) == unused
    bare = [line for line in path.read_text().splitlines() if line.strip() and "#" not in line]
    assert [line for line in bare if not line.endswith(":")] == []


def test_mode_layerwise_brings_a_decay_unless_the_recipe_has_one():
    layerwise = "mode=layerwise"
    for overrides, decay in (([], 1.0), ([layerwise], 0.75), ([layerwise, "training.layer_decay=0.6"], 0.6)):
        recipe = load_recipe("top", FinetuneRecipe, overrides)
        assert recipe.training.layer_decay == decay
        assert FinetuneRecipe.model_validate(recipe.model_dump(mode="json")).training == recipe.training


def test_all_mistakes_are_reported_at_once_with_the_nearest_key():
    values = {"objective": {"mask_fracton": 0.3}, "training": {"learning_rate": -1, "epochs": "many"}, "seeed": 1}
    with pytest.raises(RecipeError) as caught:
        validate(PretrainRecipe, values, where="my.yaml")
    message = str(caught.value)
    assert message.startswith("4 mistakes")
    assert "did you mean mask_fraction" in message
    assert "did you mean seed" in message
    assert "training.learning_rate" in message
    assert "training.epochs" in message
    assert "my.yaml" in message
    assert "\n" not in message


MISTAKEN = [  # overrides, and what is said to be where; None for the file, in which the learning rate is negative
    (["seeed=1"], {"seeed: unknown key": "--set seeed=1", "learning_rate": None}),
    (["training.learning_rate=-2"], {"found '-2'": "--set training.learning_rate=-2"}),
    (["training={learning_rate: 1, epochs: many}"], {"many": "--set training={learning_rate: 1, epochs: many}"}),
    (["training.learning_rate=0.1", "objective.name=mask"], {"'mask' found": "--set objective.name=mask"}),
    (["training.learning_rate=0.1", "objective.mask_fraction=2"], {"mask_fraction": "--set objective.mask_fraction=2"}),
    # Of a section, and of the whole recipe: from the second of two that are each right alone; put right by a third.
    (
        ["training.learning_rate=1", "data.max_constituents=50", "data.max_tokens=40"],
        {"max_tokens 40 is less than the 50 constituents of one jet in --set": "--set data.max_tokens=40"},
    ),
    (["training.learning_rate=1", "classes=[a, b]"], {"takes no classes": "--set classes=[a, b]"}),
    (["training.learning_rate=1", "seed=-1", "seed=-2"], {"seed": "--set seed=-2"}),
    (["training.learning_rate=1", "seed=x", "seed=3", "training.epochs=x"], {"epochs": "--set training.epochs=x"}),
    ([], {"learning_rate": None}),
]


@pytest.mark.parametrize(("overrides", "told"), MISTAKEN)
def test_a_mistake_is_said_to_be_where_it_was_typed(tmp_path, overrides, told):
    path = tmp_path / "mine.yaml"
    path.write_text("command: pretrain\ntraining:\n  learning_rate: -1\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(path), PretrainRecipe, overrides)
    message = str(caught.value)
    pieces = message.split(" | ")
    for what, place in told.items():
        (piece,) = (piece for piece in pieces if what in piece)
        # A place that all mistakes share stands at the end.
        assert (piece if len(set(told.values())) > 1 else pieces[-1]).endswith(f" in {place or path}")
    assert message.startswith("2 mistakes") == (len(told) > 1)


def test_a_value_too_long_for_a_line_is_cut():
    with pytest.raises(RecipeError, match=r"in --set seed=x{69}\.\.\.$"):
        load_recipe("mpm", PretrainRecipe, [f"seed={'x' * 500}"])


def test_another_option_s_mistake_is_its_own():
    with pytest.raises(RecipeError, match=r"in --mode fulll$"):
        load_recipe("top", FinetuneRecipe, options={"--mode fulll": "mode=fulll"})
    with pytest.raises(RecipeError, match=r"in --set command=finetune$"):
        load_recipe("mpm", PretrainRecipe, ["command=finetune"])
    with pytest.raises(RecipeError, match=r"in --set options\.runs=\{a: 1\}$"):
        load_any_recipe("weak-top", ["options.runs={a: 1}"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2\n", "stands twice"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("a: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        ("a:\n\t- 1\n", "not valid YAML"),
        ("- 1\n- 2\n", "expected keys and values"),
        ("a: [1\n", "not valid YAML"),
    ],
)
def test_dangerous_or_broken_yaml_is_refused_with_its_file(tmp_path, text, said):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=said) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("a: " + "x" * 1_100_000)
    with pytest.raises(RecipeError, match="few kB"):
        read_yaml(path)


def test_overrides_reach_nested_keys_and_leave_the_original_alone():
    values = {"training": {"learning_rate": 1.0, "epochs": 3}}
    changed = apply_overrides(values, ["training.learning_rate=1e-3", "data.card=mine", "training.epochs=null"])
    assert changed == {"training": {"learning_rate": 0.001, "epochs": None}, "data": {"card": "mine"}}
    assert values == {"training": {"learning_rate": 1.0, "epochs": 3}}


@pytest.mark.parametrize("override", ["novalue", "=3", "a..b=3", "seed.x=1"])
def test_a_bad_override_is_a_usage_error(override):
    with pytest.raises(UsageError):
        apply_overrides({"seed": 3}, [override])


def test_names_are_found_and_strangers_get_the_nearest():
    assert find("recipes", "mpm").name == "mpm.yaml"
    with pytest.raises(RecipeError, match="did you mean mpm"):
        find("recipes", "mpn")
    with pytest.raises(CardError, match="did you mean jetclass"):
        find("data_cards", "jetclas")


def test_a_path_wins_over_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mpm").write_text("command: pretrain\n")
    assert find("recipes", "mpm").read_text() == "command: pretrain\n"


def test_nearest_lists_everything_where_nothing_is_near():
    assert nearest("zzz", ["alpha", "beta"]) == "known: alpha, beta"
    assert nearest("QCD", ["qcd"]) == "did you mean qcd?"


def test_sections_are_frozen():
    class Small(Section):
        a: int = 1

    with pytest.raises(ValueError, match="frozen"):
        Small().a = 2


@pytest.mark.parametrize(("value", "kept"), [("auto", "auto"), ("17", 17)])
def test_the_batch_size_is_a_number_or_auto(value, kept):
    assert load_any_recipe("mpm", [f"data.batch_size={value}"]).data.batch_size == kept
    with pytest.raises(RecipeError, match=r"data\.batch_size"):
        load_any_recipe("mpm", ["data.batch_size=many"])


def test_optimizers_and_schedules_may_be_spelled_as_papers_do():
    recipe = load_recipe("top", FinetuneRecipe, ["training.optimizer=AdamW", "training.schedule=One-Cycle"])
    assert (recipe.training.optimizer, recipe.training.schedule) == ("adamw", "one_cycle")
    assert load_recipe("top", FinetuneRecipe, ["training.optimizer=NAdamW"]).training.optimizer == "nadamw"  # timm's
    with pytest.raises(RecipeError, match="no optimizer of timm; did you mean adamw"):
        load_recipe("top", FinetuneRecipe, ["training.optimizer=adamwe"])
