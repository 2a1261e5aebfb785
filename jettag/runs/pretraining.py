"""jettag pretrain: a backbone from jets whose labels are never read, or from labelled ones as the yardstick."""

import math
from pathlib import Path
from typing import Any

import torch

from jettag.config.objectives import JointRecipe, MaskedRecipe, TokenizerRecipe, VqvaeTarget
from jettag.config.recipe import PretrainRecipe
from jettag.objectives.build import JetsAre, build_objective, build_tokenizer
from jettag.objectives.objective import Objective
from jettag.runs.common import (
    NOBODY,
    ModelCard,
    Sources,
    Told,
    balancing,
    carry_out,
    class_counts,
    feature_names_of,
    new_backbone,
    open_probe,
    open_tables,
    parameter_count,
)
from jettag.runs.holding import hold_run
from jettag.runs.settling import as_begun, settle_size, settled_with
from jettag.training.devices import choose_device
from jettag.training.restore import load_tokenizer
from jettag.training.sharding import refuse_unshardable

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
    "tokenizer": ModelCard(
        "A jettag tokenizer",
        ["vq-vae", "self-supervised"],
        "A VQ-VAE over constituents (arXiv:2401.13537), no backbone.",
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
    facts: dict[str, Any] = {}
    with hold_run(out, resume=resume, told=told) as (world, resuming, told):
        torch.manual_seed(recipe.seed)
        wanted = recipe.objective
        masked = wanted.masked if isinstance(wanted, JointRecipe) else wanted
        tokens = None
        if isinstance(masked, MaskedRecipe) and isinstance(masked.target, VqvaeTarget):
            tokens = Path(masked.target.tokenizer)
        if resuming:
            recipe = as_begun(recipe, out)
        else:
            recipe = settled_with(recipe, sources, told, network=tokens)
            if not isinstance(wanted, TokenizerRecipe):  # which has no backbone
                recipe = settle_size(recipe, chosen, told)
        refuse_unshardable(recipe.training, chosen, world)  # before jets are read
        names = feature_names_of(recipe)
        tokenizer = None
        if tokens is not None:
            tokenizer = load_tokenizer(tokens, names)
            facts["tokenizer_sha256"] = tokenizer[1]
        jets = open_tables(recipe, sources, classes=recipe.classes or None, told=told)
        seen = JetsAre(
            jets.table.feature_names,
            recipe.data.max_constituents,
            class_names=jets.table.class_names,
            class_weight=balancing(class_counts(jets.table)) if recipe.classes else (),
            tokenizer=tokenizer,
        )
        model: Objective
        if isinstance(wanted, TokenizerRecipe):
            model = build_tokenizer(wanted, seen)
            facts |= {"task": "tokenizer", "parameters": parameter_count(model)}
        else:
            backbone = new_backbone(recipe, len(names), chosen)
            model = build_objective(wanted, backbone, seen)
            facts |= {"task": "pretrain", "parameters": parameter_count(backbone)}
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
            facts=facts,
            described=DESCRIBED[recipe.objective.name],
            probe=open_probe(recipe, sources),
        )
