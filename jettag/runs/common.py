"""What every training shares: jets opened, facts before and the model card after."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jettag.config import dump_yaml
from jettag.config.files import write_atomically
from jettag.config.flavour import FlavourRecipe
from jettag.config.objectives import JointRecipe, MaskedRecipe
from jettag.config.recipe import FinetuneRecipe, PretrainRecipe, Recipe
from jettag.data.card import DataCard, load_card
from jettag.data.features import feature_set
from jettag.data.jets import Table
from jettag.data.opening import expand_data, open_jets, origin_names, prepared_card, split_of
from jettag.data.read import InputFile
from jettag.data.splits import hold_out
from jettag.data.subsets import draw
from jettag.errors import DataError
from jettag.models import build_backbone
from jettag.models.particle_transformer import ParticleTransformer
from jettag.objectives import Objective
from jettag.runs.flavour_data import check_origins, flavour_card, refuse_missing_truth, without_missing_truth
from jettag.runs.seen import refuse_shared
from jettag.runs.training_picture import draw_training_picture
from jettag.training.distributed import World
from jettag.training.loop import Criterion
from jettag.training.probe import Probe
from jettag.training.run_directory import (
    describe_inputs,
    refuse_another,
    update_run,
    write_model_card,
)
from jettag.training.session import fit

__all__ = [
    "NOBODY",
    "ModelCard",
    "Opened",
    "Sources",
    "Told",
    "auto_size",
    "balancing",
    "carry_out",
    "class_counts",
    "feature_names_of",
    "flavour_of",
    "labelled_card",
    "new_backbone",
    "open_probe",
    "open_tables",
    "parameter_count",
    "with_truth",
]

Log = Callable[[dict[str, Any]], None]


def _silent(_: object) -> None:
    """Take a record and say nothing."""


@dataclass(frozen=True)
class Sources:
    """Where the jets come from: files or globs, ``CLASS:GLOB`` where the class is the file's."""

    train: Sequence[str]
    val: Sequence[str] = ()
    card: str | None = None


@dataclass(frozen=True)
class Told:
    """What a long run reports to: records of the log, and notes for the person."""

    log: Log = _silent
    note: Callable[[str], None] = _silent


NOBODY = Told()


@dataclass(frozen=True)
class Opened:
    """Training and validation jets, their card, and the files of each."""

    table: Table
    val_table: Table
    card: DataCard
    train_inputs: Sequence[InputFile]
    val_inputs: Sequence[InputFile]


@dataclass(frozen=True)
class ModelCard:
    """What ``README.md`` of a run says of the model."""

    title: str
    tags: Sequence[str]
    summary: str


def _read(
    recipe: Recipe, card: DataCard, inputs: Sequence[InputFile], split: str, classes: Sequence[str] | None, told: Told
) -> Table:
    drawn = recipe.data.draw_seed
    flavour = flavour_of(recipe)
    if flavour is not None:
        refuse_missing_truth(inputs, card, flavour)
    table = open_jets(
        inputs,
        card,
        split=split,
        features=recipe.data.features,
        labels=classes is not None,
        classes=classes,
        max_constituents=recipe.data.max_constituents,
        max_jets=recipe.data.max_jets if drawn is None else None,
        jet_columns=recipe.data.sampling.jet_columns if recipe.data.sampling else (),
        constituent_columns=flavour.constituent_columns if flavour else (),
        batch_columns=_batch_columns(recipe),
    )
    check_origins(table)
    for what, count in table.notes.items():
        if count:
            told.note(f"{count} {what.replace('_', ' ')}")
    wanted = recipe.data.max_jets
    return table if drawn is None or wanted is None or wanted >= len(table) else draw(table, wanted, drawn)


def flavour_of(recipe: Recipe) -> FlavourRecipe | None:
    """The recipe's flavour objective, where it has one."""
    objective = recipe.objective if isinstance(recipe, FinetuneRecipe) else None
    return objective if isinstance(objective, FlavourRecipe) else None


def _batch_columns(recipe: Recipe) -> tuple[str, ...]:
    """Jet columns that the objective needs in every batch."""
    objective: object = recipe.objective if isinstance(recipe, FinetuneRecipe | PretrainRecipe) else None
    if isinstance(objective, JointRecipe):
        objective = objective.masked
    if isinstance(objective, MaskedRecipe):
        return objective.observables.columns if objective.observables else ()
    return objective.jet_columns if isinstance(objective, FlavourRecipe) else ()


def labelled_card(name: str | None, recipe: Recipe, inputs: Sequence[InputFile]) -> DataCard:
    """The card of a name, or of the recipe, as the recipe reads the labels of these files with it."""
    card, flavour = load_card(name or recipe.data.card), flavour_of(recipe)
    files = [file for file in inputs if split_of(file, "train") is None]  # what is prepared has its labels
    return card if flavour is None else flavour_card(card, flavour.scheme, files)


def with_truth(recipe: FinetuneRecipe, sources: Sources, told: Told) -> FinetuneRecipe:
    """The recipe without tasks of flavour tagging whose truth the training files lack, which the person is told."""
    flavour = flavour_of(recipe)
    if flavour is None:
        return recipe
    inputs = expand_data(sources.train)
    card = prepared_card(inputs) or load_card(sources.card or recipe.data.card)
    objective, note = without_missing_truth(inputs, card, flavour)
    if note:
        told.note(note)
    return recipe.model_copy(update={"objective": objective})


def open_tables(recipe: Recipe, sources: Sources | Opened, *, classes: Sequence[str] | None, told: Told) -> Opened:
    """Training and validation jets of ``sources``; a part of the training jets is held out where no others are given.

    What is ``Opened`` already, by a scan that trains on the same files many times, is taken as it is.

    Raises:
        DataError: jets stand in both, also through shards made of one file; or nothing is left of one.
    """
    if isinstance(sources, Opened):
        return sources
    train_inputs = expand_data(sources.train)
    val_inputs = expand_data(sources.val) if sources.val else []
    refuse_shared(train_inputs, val_inputs, "--data", "--val")
    card = prepared_card(train_inputs) or labelled_card(sources.card, recipe, [*train_inputs, *val_inputs])
    table = _read(recipe, card, train_inputs, "train", classes, told)
    if val_inputs:
        held_out = _read(recipe, card, val_inputs, "val", classes, told)
    else:
        table, held_out = hold_out(table, recipe.data.val_fraction, recipe.seed)
    for name, part in (("training", table), ("validation", held_out)):
        if len(part) == 0:
            raise DataError(f"no {name} jet left after selection", do="give more jets")
    return Opened(table, held_out, card, train_inputs, val_inputs)


def feature_names_of(recipe: Recipe) -> tuple[str, ...]:
    """Columns of the recipe's feature set."""
    return feature_set(recipe.data.features).names


def auto_size(device: torch.device) -> str:
    """What ``size: auto`` takes."""
    return "tiny" if device.type == "cpu" else "base"


def new_backbone(recipe: Recipe, num_features: int, device: torch.device) -> ParticleTransformer:
    """A backbone with fresh weights; ``size: auto`` depends on the device."""
    size = auto_size(device) if recipe.backbone.size == "auto" else recipe.backbone.size
    return build_backbone(recipe.backbone.name, size, num_features, **recipe.backbone.settings)


def _begin(
    out: Path,
    recipe: Recipe,
    jets: Opened,
    *,
    resuming: bool,
    **facts: Any,
) -> None:
    """Write what is known before the first step, or see that a resumed run is the one that was begun.

    Args:
        out: the run directory.
        recipe: resolved.
        jets: and the files they are from.
        resuming: check, and write nothing.
        facts: for ``run.json``.
    """
    described = [
        item
        for role, files in (("train", jets.train_inputs), ("val", jets.val_inputs))
        for item in describe_inputs(files, role)
    ]
    if resuming:
        refuse_another(out, recipe.model_dump(mode="json"), described)
        return
    write_atomically(out / "recipe.yaml", dump_yaml(recipe))
    write_atomically(out / "card.yaml", dump_yaml(jets.card))
    update_run(out, begin=True, seed=recipe.seed, inputs=described, finished=False, **facts)


def _settings(recipe: Recipe, model: Objective, table: Table) -> dict[str, Any]:
    """What a checkpoint must say for its tensors to mean anything."""
    return {
        "features": recipe.data.features,
        "feature_names": list(table.feature_names),
        "class_names": list(table.class_names),
        "max_constituents": recipe.data.max_constituents,
        **model.settings(),
        **model.saved_settings(),
    }


def open_probe(recipe: PretrainRecipe, sources: Sources) -> Probe | None:
    """The probe a recipe asks for, on labelled jets of the training files.

    Raises:
        DataError: they have no labels, or no jet of a class.
    """
    if recipe.probe is None:
        return None
    inputs = expand_data(sources.train)
    table = open_jets(
        inputs,
        prepared_card(inputs) or load_card(sources.card or recipe.data.card),
        split="train",
        features=recipe.data.features,
        labels=True,
        classes=recipe.probe.classes,
        max_constituents=recipe.data.max_constituents,
        max_jets=recipe.probe.jets,
    )
    class_counts(table)
    return Probe(table, recipe.seed)


def parameter_count(module: torch.nn.Module) -> int:
    """Numbers in the parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def carry_out(
    recipe: Recipe,
    model: Objective,
    jets: Opened,
    *,
    out: Path,
    world: World,
    resuming: bool,
    device: torch.device,
    limits: tuple[float, int | None],
    told: Told,
    facts: dict[str, Any],
    described: ModelCard,
    probe: Probe | None = None,
    precompute: bool = True,
    criterion: Criterion | None = None,
    pictures: bool = True,
) -> dict[str, Any]:
    """Train the model: facts before, checkpoints meanwhile, a picture (if ``pictures``) and the model card after."""
    table = jets.table
    facts |= {
        "class_names": list(table.class_names),
        "feature_names": list(table.feature_names),
        "n_train": len(table),
    }
    world.first(partial(_begin, out, recipe, jets, resuming=resuming, **facts))
    fit(
        recipe,
        model,
        table,
        jets.val_table,
        out=out,
        device=device,
        world=world,
        settings=_settings(recipe, model, table),
        files=origin_names(jets.train_inputs),
        resume=resuming,
        max_seconds=limits[0],
        max_steps=limits[1],
        log=told.log,
        note=told.note,
        probe=probe,
        precompute=precompute,
        criterion=criterion,
    )

    def conclude() -> dict[str, Any]:
        try:
            if pictures:
                draw_training_picture(out, told.note)
        finally:  # whatever stops the drawing
            done = write_model_card(out, title=described.title, tags=described.tags, summary=[described.summary])
        return done

    return world.first(conclude)


def class_counts(table: Table) -> npt.NDArray[np.int64]:
    """(C,) jets of each class; every class must be there.

    Raises:
        DataError: there are no labels, or no jet of a class.
    """
    counts = table.class_counts
    if counts is None:
        raise DataError("the jets have no labels", do="give a card with labels, or CLASS:GLOB")
    if (counts == 0).any():
        absent = [name for name, count in zip(table.class_names, counts, strict=True) if count == 0]
        raise DataError(f"no training jet of class {', '.join(absent)}", do="give files of every class in --data")
    return counts


def balancing(counts: npt.NDArray[np.int64]) -> tuple[float, ...]:
    """(C,) weights with which each class counts the same in a loss; their mean over the jets is 1."""
    return tuple((counts.sum() / (len(counts) * counts)).tolist())
