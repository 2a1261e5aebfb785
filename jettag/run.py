"""What the command line, a notebook and a test call: recipe -> jets, model, objective -> loop -> run directory."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jettag.config import dump_yaml
from jettag.config.files import write_atomically
from jettag.config.recipe import FinetuneRecipe, PretrainRecipe, Recipe, load_any_recipe, load_recipe
from jettag.data.card import DataCard, load_card
from jettag.data.features import feature_set
from jettag.data.jets import Table
from jettag.data.opening import expand_data, open_jets, origin_names, prepared_card
from jettag.data.read import InputFile
from jettag.data.splits import hold_out
from jettag.errors import DataError, RecipeError, Stopped
from jettag.importing import import_weaver
from jettag.inference import embed, evaluate, predict
from jettag.models import build_backbone
from jettag.models.particle_transformer import ParticleTransformer
from jettag.objectives import Classification, MaskedModelling, Objective
from jettag.training import load_backbone
from jettag.training.distributed import World, choose_device, join
from jettag.training.run_directory import (
    describe_inputs,
    occupy,
    open_run,
    refuse_another,
    update_run,
    write_model_card,
)
from jettag.training.session import fit
from jettag.training.signals import stop_at_once

__all__ = [
    "Sources",
    "Told",
    "choose_device",
    "embed",
    "evaluate",
    "finetune",
    "import_weaver",
    "load_any_recipe",
    "load_recipe",
    "predict",
    "pretrain",
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


def _read(
    recipe: Recipe, card: DataCard, inputs: Sequence[InputFile], split: str, classes: Sequence[str] | None, told: Told
) -> Table:
    table = open_jets(
        inputs,
        card,
        split=split,
        features=recipe.data.features,
        labels=classes is not None,
        classes=classes,
        max_constituents=recipe.data.max_constituents,
        max_jets=recipe.data.max_jets,
        jet_columns=tuple(recipe.data.sampling.flat_in) if recipe.data.sampling else (),
    )
    for what, count in table.notes.items():
        if count:
            told.note(f"{count} {what.replace('_', ' ')}")
    return table


def _tables(
    recipe: Recipe, sources: Sources, *, classes: Sequence[str] | None, told: Told
) -> tuple[Table, Table, DataCard, list[InputFile], list[InputFile]]:
    """Training and validation jets, the card, and the files of each."""
    train_inputs = expand_data(sources.train)
    card = prepared_card(train_inputs) or load_card(sources.card or recipe.data.card)
    val_inputs = expand_data(sources.val) if sources.val else []
    table = _read(recipe, card, train_inputs, "train", classes, told)
    if val_inputs:
        shared = {item.path.resolve() for item in train_inputs} & {item.path.resolve() for item in val_inputs}
        if shared:
            raise DataError("the file is in --data and in --val", where=min(shared), do="give disjoint files")
        held_out = _read(recipe, card, val_inputs, "val", classes, told)
    else:
        table, held_out = hold_out(table, recipe.data.val_fraction, recipe.seed)
    for name, part in (("training", table), ("validation", held_out)):
        if len(part) == 0:
            raise DataError(f"no {name} jet left after selection", do="give more jets")
    return table, held_out, card, train_inputs, val_inputs


def _feature_names(recipe: Recipe) -> tuple[str, ...]:
    """Columns of the recipe's feature set."""
    return feature_set(recipe.data.features).names


def _auto_size(device: torch.device) -> str:
    return "tiny" if device.type == "cpu" else "base"


def _new_backbone(recipe: Recipe, num_features: int, device: torch.device) -> ParticleTransformer:
    size = _auto_size(device) if recipe.backbone.size == "auto" else recipe.backbone.size
    return build_backbone(recipe.backbone.name, size, num_features, **recipe.backbone.settings)


@contextmanager
def _session(out: Path, *, resume: bool, told: Told) -> Iterator[tuple[World, bool, Told]]:
    """Hold the run directory, together with the processes that torchrun started beside this one.

    Yields:
        Who trains; whether to go on with what is there; and whom to tell, which only the first process does.
    """
    with join() as world, ExitStack() as held, stop_at_once():

        def enter() -> bool:
            held.enter_context(occupy(out))
            resuming = open_run(out, resume=resume)
            if resuming:
                update_run(out, stopped=None)
            return resuming

        resuming = world.first(enter)
        try:
            yield world, resuming, told if world.is_first else Told()
        except Stopped as stop:
            if world.is_first:
                update_run(out, stopped=stop.exit_code)  # torchrun tells every failure as 1; scripts read it here
            raise


def _begin(
    out: Path,
    recipe: Recipe,
    card: DataCard,
    inputs: tuple[Sequence[InputFile], Sequence[InputFile]],
    *,
    resuming: bool,
    **facts: Any,
) -> None:
    """Write what is known before the first step, or see that a resumed run is the one that was begun.

    Args:
        out: the run directory.
        recipe: resolved.
        card: of the files.
        inputs: training and validation files.
        resuming: check, and write nothing.
        facts: for ``run.json``.
    """
    described = [
        item
        for role, files in zip(("train", "val"), inputs, strict=True)
        for item in describe_inputs([file.manifest for file in files if file.url is None], role)
    ]
    if resuming:
        refuse_another(out, recipe.model_dump(mode="json"), described)
        return
    write_atomically(out / "recipe.yaml", dump_yaml(recipe))
    write_atomically(out / "card.yaml", dump_yaml(card))
    update_run(out, begin=True, seed=recipe.seed, inputs=described, finished=False, **facts)


def _settings(recipe: Recipe, backbone: ParticleTransformer, table: Table) -> dict[str, Any]:
    """What a checkpoint must say for its tensors to mean anything."""
    return {
        "features": recipe.data.features,
        "feature_names": list(table.feature_names),
        "class_names": list(table.class_names),
        "head_hidden": [],
        "max_constituents": recipe.data.max_constituents,
        "backbone": backbone.settings(),
    }


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def pretrain(
    recipe: PretrainRecipe,
    sources: Sources,
    out: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    max_seconds: float = math.inf,
    max_steps: int | None = None,
    told: Told = Told(),
) -> dict[str, Any]:
    """Train a backbone on jets whose labels are never read.

    Returns:
        The facts of the run, as in ``run.json``.

    Raises:
        JettagError: see its children for what can be wrong, and with which exit code.
    """
    chosen = choose_device(device)
    torch.manual_seed(recipe.seed)
    backbone = _new_backbone(recipe, len(_feature_names(recipe)), chosen)
    with _session(out, resume=resume, told=told) as (world, resuming, told):
        table, val_table, card, *inputs = _tables(recipe, sources, classes=None, told=told)
        objective = recipe.objective
        model = MaskedModelling(
            backbone,
            table.feature_names,
            num_codes=objective.target.codes,
            mask_fraction=objective.mask_fraction,
            decoder_dim=objective.decoder.dim,
            decoder_layers=objective.decoder.layers,
            decoder_heads=objective.decoder.heads,
            max_constituents=recipe.data.max_constituents,
        )
        if not resuming:
            model.prepare(table, fit_constituents=objective.target.fit_constituents, seed=recipe.seed)
        return _carry_out(
            recipe,
            model,
            (table, val_table),
            card,
            (inputs[0], inputs[1]),
            out=out,
            world=world,
            resuming=resuming,
            device=chosen,
            limits=(max_seconds, max_steps),
            told=told,
            facts={"task": "pretrain", "parameters": _parameters(backbone)},
            title="A jettag backbone",
            tags=["masked-particle-modelling", "self-supervised"],
            summary="Pre-trained by masked particle modelling (arXiv:2401.13537) without labels.",
        )


def finetune(
    recipe: FinetuneRecipe,
    sources: Sources,
    out: Path,
    *,
    pretrained: Path | None = None,
    device: str = "auto",
    resume: bool = False,
    max_seconds: float = math.inf,
    max_steps: int | None = None,
    told: Told = Told(),
) -> dict[str, Any]:
    """Train a classifier on labelled jets, from a pre-trained backbone or from scratch.

    Returns:
        The facts of the run, as in ``run.json``.

    Raises:
        JettagError: see its children for what can be wrong, and with which exit code.
    """
    chosen = choose_device(device)
    if recipe.mode == "head" and pretrained is None:
        raise RecipeError("mode head trains on a frozen backbone", do="give one with --from, or use --mode full")
    torch.manual_seed(recipe.seed)
    feature_names = _feature_names(recipe)
    if pretrained is None:
        backbone = _new_backbone(recipe, len(feature_names), chosen)
    else:
        backbone, _ = load_backbone(pretrained, feature_names)
    with _session(out, resume=resume, told=told) as (world, resuming, told):
        table, val_table, card, *inputs = _tables(recipe, sources, classes=recipe.classes, told=told)
        counts = _class_counts(table)
        weight = len(table) / (len(counts) * counts) if recipe.objective.balance_classes else np.ones(len(counts))
        model = Classification(
            backbone,
            len(table.class_names),
            class_weight=weight.tolist(),
            label_smoothing=recipe.objective.label_smoothing,
            freeze_backbone=recipe.mode == "head",
        )
        return _carry_out(
            recipe,
            model,
            (table, val_table),
            card,
            (inputs[0], inputs[1]),
            out=out,
            world=world,
            resuming=resuming,
            device=chosen,
            limits=(max_seconds, max_steps),
            told=told,
            facts={
                "task": "finetune",
                "parameters": _parameters(model),
                "mode": recipe.mode if pretrained else "scratch",
                "pretrained": str(pretrained.resolve()) if pretrained else None,
                "class_counts": dict(zip(table.class_names, counts.tolist(), strict=True)),
            },
            title=f"A jettag tagger of {', '.join(table.class_names)}",
            tags=["classification"],
            summary="A jet classifier on a Particle Transformer backbone (arXiv:2202.03772).",
        )


def _carry_out(
    recipe: Recipe,
    model: Objective,
    tables: tuple[Table, Table],
    card: DataCard,
    inputs: tuple[Sequence[InputFile], Sequence[InputFile]],
    *,
    out: Path,
    world: World,
    resuming: bool,
    device: torch.device,
    limits: tuple[float, int | None],
    told: Told,
    facts: dict[str, Any],
    title: str,
    tags: Sequence[str],
    summary: str,
) -> dict[str, Any]:
    """Train the model: facts before, checkpoints meanwhile, the model card after."""
    table, val_table = tables
    facts |= {
        "class_names": list(table.class_names),
        "feature_names": list(table.feature_names),
        "n_train": len(table),
    }
    world.first(partial(_begin, out, recipe, card, inputs, resuming=resuming, **facts))
    if recipe.backbone.size == "auto" and not facts.get("pretrained"):
        told.note(f"backbone.size: auto takes {_auto_size(device)} on {device.type}")
    fit(
        recipe,
        model,
        table,
        val_table,
        out=out,
        device=world.device(device),
        world=world,
        settings=_settings(recipe, model.backbone, table),
        files=origin_names(inputs[0]),
        resume=resuming,
        max_seconds=limits[0],
        max_steps=limits[1],
        log=told.log,
        note=told.note,
    )
    return world.first(partial(write_model_card, out, title=title, tags=tags, summary=[summary]))


def _class_counts(table: Table) -> np.ndarray:
    """(C,) jets of each class; every class must be there."""
    counts = table.class_counts
    if counts is None:
        raise DataError("the jets have no labels", do="give a card with labels, or CLASS:GLOB")
    if (counts == 0).any():
        absent = [name for name, count in zip(table.class_names, counts, strict=True) if count == 0]
        raise DataError(f"no training jet of class {', '.join(absent)}", do="give files of every class in --data")
    return counts
