"""jettag pretrain: a backbone from jets whose labels are never read, or from labelled ones as the yardstick."""

import math
from pathlib import Path
from typing import Any

import torch

from jettag.config.recipe import PretrainRecipe
from jettag.objectives.build import JetsAre, build_objective
from jettag.runs.common import (
    NOBODY,
    ModelCard,
    Sources,
    Told,
    balancing,
    carry_out,
    class_counts,
    feature_names_of,
    hold_run,
    new_backbone,
    open_probe,
    open_tables,
    parameter_count,
)
from jettag.training.distributed import choose_device

__all__ = ["pretrain"]

TITLE = "A jettag backbone"
DESCRIBED = {
    "masked": ModelCard(
        TITLE,
        ["masked-particle-modelling", "self-supervised"],
        "Pre-trained by masked particle modelling (arXiv:2401.13537) without labels.",
    ),
    "contrastive": ModelCard(
        TITLE,
        ["contrastive-learning", "self-supervised"],
        "Pre-trained by contrastive learning on augmented views (JetCLR, arXiv:2108.04253) without labels.",
    ),
    "joint": ModelCard(
        TITLE,
        ["masked-particle-modelling", "contrastive-learning", "self-supervised"],
        "Pre-trained by masked particle modelling (arXiv:2401.13537) and contrastive learning (arXiv:2108.04253) "
        "without labels.",
    ),
    "classification": ModelCard(
        "A jettag backbone and tagger", ["classification", "supervised-pretraining"], "Pre-trained on labelled jets."
    ),
}


def pretrain(
    recipe: PretrainRecipe,
    sources: Sources,
    out: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    max_seconds: float = math.inf,
    max_steps: int | None = None,
    told: Told = NOBODY,
) -> dict[str, Any]:
    """Train a backbone, without labels or, where the recipe names classes, on them.

    Returns:
        The facts of the run, as in ``run.json``.

    Raises:
        JettagError: see its children for what can be wrong, and with which exit code.
    """
    chosen = choose_device(device)
    torch.manual_seed(recipe.seed)
    backbone = new_backbone(recipe, len(feature_names_of(recipe)), chosen)
    with hold_run(out, resume=resume, told=told) as (world, resuming, told):
        jets = open_tables(recipe, sources, classes=recipe.classes or None, told=told)
        seen = JetsAre(
            jets.table.feature_names,
            recipe.data.max_constituents,
            class_names=jets.table.class_names,
            class_weight=balancing(class_counts(jets.table)) if recipe.classes else (),
        )
        model = build_objective(recipe.objective, backbone, seen)
        if not resuming:
            model.prepare(jets.table, seed=recipe.seed)
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
            facts={"task": "pretrain", "parameters": parameter_count(backbone)},
            described=DESCRIBED[recipe.objective.name],
            probe=open_probe(recipe, sources),
        )
