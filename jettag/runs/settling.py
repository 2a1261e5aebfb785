"""What a recipe leaves to jettag, chosen before a training so that the run's recipe repeats it: features and size."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from jettag.config.loading import read_yaml
from jettag.config.recipe import FinetuneRecipe, Recipe
from jettag.data.card import DataCard, load_card
from jettag.data.dataset import read_dataset
from jettag.data.features import FEATURE_SETS
from jettag.data.inputs import InputFile
from jettag.data.opening import expand_data, prepared_card, split_of
from jettag.data.richest import AUTO, RICHEST_FIRST, richest_set, sets_in_all
from jettag.errors import DataError
from jettag.models import SIZES
from jettag.models.particle_transformer import ParticleTransformer
from jettag.runs.common import Opened, Sources, Told, auto_size
from jettag.training.restore import features_of

__all__ = ["as_begun", "settle_features", "settle_size", "settled_with"]

RecipeType = TypeVar("RecipeType", bound=Recipe)


def as_begun(recipe: RecipeType, run: Path, *, pretrained: bool = False) -> RecipeType:
    """The recipe of a run that goes on: what it leaves open is what the run has taken."""
    begun = read_yaml(run / "recipe.yaml")
    if recipe.data.features == AUTO:
        recipe = _with_features(recipe, begun["data"]["features"])
    if recipe.backbone.size == AUTO:
        # Its own settings are no part of a network that starts from a backbone, and those of another run are refused.
        changes = begun["backbone"] if pretrained else {"size": begun["backbone"]["size"]}
        recipe = recipe.model_copy(update={"backbone": recipe.backbone.model_copy(update=changes)})
    return recipe


def settled_with(
    recipe: RecipeType, sources: Sources | Opened, told: Told, *, network: Path | None = None, adapt: bool = False
) -> RecipeType:
    """`settle_features` with the files of a training."""
    if recipe.data.features != AUTO:
        return recipe
    if isinstance(sources, Opened):
        inputs, card = [*sources.train_inputs, *sources.val_inputs], sources.card
    else:
        inputs = [file for files in (sources.train, sources.val) if files for file in expand_data(files)]
        card = prepared_card(inputs) or load_card(sources.card or recipe.data.card)
    return settle_features(recipe, inputs, card, told, network=network, adapt=adapt)


def settle_features(
    recipe: RecipeType,
    inputs: Sequence[InputFile],
    card: DataCard,
    told: Told,
    *,
    network: Path | None = None,
    adapt: bool = False,
) -> RecipeType:
    """The recipe with a feature set in the place of ``auto``, which the person is told.

    Args:
        recipe: which may name a set; then it stays.
        inputs: every file that the training reads, from `expand_data`.
        card: of the files.
        told: hears what was chosen.
        network: the run or checkpoint of a backbone or tokenizer, whose own features are taken.
        adapt: the network is adapted to the richest features that the inputs give.

    Raises:
        DataError: the inputs do not give the network's features; or as `expand_data`.
    """
    if recipe.data.features != AUTO:
        return recipe
    own = features_of(network)[0] if network else None
    prepared = {place[0]: read_dataset(place[0]).features for file in inputs if (place := split_of(file, "train"))}
    if own is not None and not adapt:
        _refuse_others(own, inputs, card, prepared, isinstance(recipe, FinetuneRecipe))
        chosen, why = own, "that of the network it starts from"
    elif prepared:
        chosen, why = next(iter(prepared.values())), "as prepared"
    else:
        chosen, why = richest_set(inputs, card), f"the richest that card {card.name} and these files give"
        if own in FEATURE_SETS and _richer(own, chosen) and sets_in_all(inputs, card, [own]):
            chosen, why = own, "that of the network it starts from"
    told.note(f"data.features: auto takes {chosen}, {why}")
    return _with_features(recipe, chosen)


def _refuse_others(
    own: str, inputs: Sequence[InputFile], card: DataCard, prepared: Mapping[Path, str], adaptable: bool
) -> None:
    """See that the inputs give a network's own features."""
    otherwise = "finetune with --adapt-features" if adaptable else "give another tokenizer"
    for folder, features in prepared.items():
        if features != own:
            what = f"prepared with features {features} where the network takes {own}"
            raise DataError(what, where=folder, do=f"prepare it again with --features {own}, or {otherwise}")
    if prepared or own not in FEATURE_SETS or sets_in_all(inputs, card, [own]):
        return
    able = sets_in_all(inputs, card, RICHEST_FIRST)
    if able:  # else reading tells which branches lack
        what = f"the network takes features {own}, and these files give {able[0]} at most"
        raise DataError(what, where=f"card {card.name}", do=otherwise)


def _richer(one: str, other: str) -> bool:
    """Whether a set has all features of another, or is the same in another scale."""
    return set(FEATURE_SETS[one].names) >= set(FEATURE_SETS[other].names)


def _with_features(recipe: RecipeType, features: str) -> RecipeType:
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"features": features})})


def settle_size(
    recipe: RecipeType, device: torch.device, told: Told, pretrained: ParticleTransformer | None = None
) -> RecipeType:
    """The recipe with a size in the place of ``auto``: that of the device, or of the backbone it starts from."""
    if recipe.backbone.size != AUTO:
        return recipe
    changes: dict[str, Any]
    if pretrained is not None:
        changes = _shape(pretrained.settings())
    else:
        changes = {"size": auto_size(device)}
        told.note(f"backbone.size: auto takes {changes['size']} on {device.type}")
    return recipe.model_copy(update={"backbone": recipe.backbone.model_copy(update=changes)})


def _shape(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Size and settings of a backbone: the size whose numbers differ least, and those that differ."""
    known = dict(ParticleTransformer.__init__.__kwdefaults__ or {})
    known.pop("feature_slots")  # of the features, not of the shape
    apart = {
        size: {key: value for key, value in settings.items() if key in known and value != {**known, **own}[key]}
        for size, own in SIZES.items()
    }
    nearest = min(apart, key=lambda size: len(apart[size]))
    return {"size": nearest, "settings": apart[nearest]}
