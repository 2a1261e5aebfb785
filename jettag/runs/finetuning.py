"""jettag finetune: a tagger from labelled jets, on a pre-trained backbone or from scratch."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jettag.config.recipe import FinetuneRecipe
from jettag.data.jets import Table
from jettag.errors import DataError, RecipeError
from jettag.objectives import Classification
from jettag.runs.common import (
    NOBODY,
    ModelCard,
    Opened,
    Sources,
    Told,
    carry_out,
    feature_names_of,
    hold_run,
    new_backbone,
    open_tables,
    parameter_count,
)
from jettag.training import load_backbone
from jettag.training.distributed import choose_device

__all__ = ["finetune"]


def finetune(
    recipe: FinetuneRecipe,
    sources: Sources | Opened,
    out: Path,
    *,
    pretrained: Path | None = None,
    device: str = "auto",
    resume: bool = False,
    max_seconds: float = math.inf,
    max_steps: int | None = None,
    told: Told = NOBODY,
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
    feature_names = feature_names_of(recipe)
    if pretrained is None:
        backbone = new_backbone(recipe, len(feature_names), chosen)
    else:
        backbone, _ = load_backbone(pretrained, feature_names)
    with hold_run(out, resume=resume, told=told) as (world, resuming, told):
        jets = open_tables(recipe, sources, classes=recipe.classes, told=told)
        table = jets.table
        counts = _class_counts(table)
        weight = len(table) / (len(counts) * counts) if recipe.objective.balance_classes else np.ones(len(counts))
        model = Classification(
            backbone,
            len(table.class_names),
            class_weight=weight.tolist(),
            label_smoothing=recipe.objective.label_smoothing,
            freeze_backbone=recipe.mode == "head",
        )
        return carry_out(
            recipe,
            model,
            jets,
            out=out,
            world=world,
            resuming=resuming,
            device=chosen,
            limits=(max_seconds, max_steps),
            told=told,
            facts={
                "task": "finetune",
                "parameters": parameter_count(model),
                "mode": recipe.mode if pretrained else "scratch",
                "pretrained": str(pretrained.resolve()) if pretrained else None,
                "class_counts": dict(zip(table.class_names, counts.tolist(), strict=True)),
            },
            described=ModelCard(
                f"A jettag tagger of {', '.join(table.class_names)}",
                ["classification"],
                "A jet classifier on a Particle Transformer backbone (arXiv:2202.03772).",
            ),
        )


def _class_counts(table: Table) -> np.ndarray:
    """(C,) jets of each class; every class must be there."""
    counts = table.class_counts
    if counts is None:
        raise DataError("the jets have no labels", do="give a card with labels, or CLASS:GLOB")
    if (counts == 0).any():
        absent = [name for name, count in zip(table.class_names, counts, strict=True) if count == 0]
        raise DataError(f"no training jet of class {', '.join(absent)}", do="give files of every class in --data")
    return counts
