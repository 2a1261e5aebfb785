"""How fast a pre-trained backbone learns."""

import pytest

from jettag.config.adaptation import AdaptationRecipe, backbone_rate
from jettag.config.recipe import FinetuneRecipe, load_recipe
from jettag.errors import RecipeError


def test_few_labels_move_a_backbone_little_and_many_as_much_as_the_head():
    assert [backbone_rate(n) for n in (1, 100, 1000)] == [0.1, 0.1, 0.1]
    assert backbone_rate(3_000) == pytest.approx(0.3)
    assert backbone_rate(10_000) == backbone_rate(10**8) == 1.0
    rates = [backbone_rate(n) for n in range(500, 20_000, 500)]
    assert rates == sorted(rates)


@pytest.mark.parametrize("name", ["top", "flavour"])
def test_recipes_leave_it_to_the_number_of_labels_and_take_a_number(name):
    assert load_recipe(name, FinetuneRecipe, []).adaptation.backbone_rate_multiplier == "auto"
    changed = load_recipe(name, FinetuneRecipe, ["adaptation.backbone_rate_multiplier=0.2"])
    assert changed.adaptation.backbone_rate_multiplier == 0.2
    for wrong in ("0", "1.5", "fast"):
        with pytest.raises(RecipeError, match="backbone_rate_multiplier"):
            load_recipe(name, FinetuneRecipe, [f"adaptation.backbone_rate_multiplier={wrong}"])


def test_mixed_samples_keep_a_tenth():
    """Their labels are noise in part, however many there are."""
    assert load_recipe("weak", FinetuneRecipe, []).adaptation.backbone_rate_multiplier == 0.1
    assert AdaptationRecipe().backbone_rate_multiplier == "auto"
