"""jettag finetune: a tagger from labelled jets, on a pre-trained backbone or from scratch."""

import math
from pathlib import Path
from typing import Any

import torch

from jettag.config.adaptation import backbone_rate
from jettag.config.recipe import FinetuneRecipe
from jettag.data.jets import Table
from jettag.errors import RecipeError
from jettag.models.adapters import adapters
from jettag.models.particle_transformer import ParticleTransformer
from jettag.objectives import Classification, Flavour
from jettag.objectives.phases import ALL_AT_ONCE, FROZEN, Phases
from jettag.runs.common import (
    NOBODY,
    ModelCard,
    Opened,
    Sources,
    Told,
    balancing,
    carry_out,
    class_counts,
    feature_names_of,
    flavour_of,
    new_backbone,
    open_tables,
    parameter_count,
    with_truth,
)
from jettag.runs.flavour_choices import store_choices
from jettag.runs.flavour_data import opposite_sign, origin_weights, wrong_unit
from jettag.runs.holding import hold_run
from jettag.runs.settling import as_begun, settle_size, settled_with
from jettag.runs.weak_selection import ARGOS
from jettag.training import load_backbone
from jettag.training.devices import choose_device
from jettag.training.sharding import refuse_unshardable

__all__ = ["finetune"]

NOTHING_MOVES = "frozen: the backbone, its BatchNorm statistics and dropout"
FROZEN_IS: dict[str, str] = {
    "scratch": "nothing is frozen",
    "full": "nothing is frozen",
    "head": NOTHING_MOVES,
    "probe": NOTHING_MOVES,
    "attentive": NOTHING_MOVES,
    "lpft": "the backbone is frozen in the first phase",
    "staged": "the backbone is frozen in the first phase",
    "layerwise": "nothing is frozen",
    "lora": "frozen: the backbone but for its layer norms, tokens and low-rank updates; BatchNorm, dropout",
}


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
    pictures: bool = True,
) -> dict[str, Any]:
    """Train a classifier on labelled jets, from a pre-trained backbone or from scratch; ``pictures`` draws how it went.

    Returns:
        The facts of the run, as in ``run.json``.

    Raises:
        JettagError: see its children for what can be wrong, and with which exit code.
    """
    chosen = choose_device(device)
    if recipe.mode != "full" and pretrained is None:
        raise RecipeError(
            f"mode {recipe.mode} adapts a pre-trained backbone",
            do="give one with --from, or train from scratch with --mode full",
        )
    mode = recipe.mode if pretrained else "scratch"
    with hold_run(out, resume=resume, told=told, pictures=pictures) as (world, resuming, told):
        torch.manual_seed(recipe.seed)
        adapt = recipe.adaptation.adapt_features
        if resuming:
            recipe = as_begun(recipe, out, pretrained=pretrained is not None)
        else:
            recipe = settled_with(recipe, sources, told, network=pretrained, adapt=adapt)
        refuse_unshardable(recipe.training, chosen, world)  # before jets are read
        feature_names = feature_names_of(recipe)
        if pretrained is None:
            recipe = recipe if resuming else settle_size(recipe, chosen, told)
            backbone = new_backbone(recipe, len(feature_names), chosen)
        else:
            backbone, _ = load_backbone(pretrained, feature_names, adapt=told.note if adapt else None)
            recipe = recipe if resuming else settle_size(recipe, chosen, told, backbone)
        if recipe.adaptation.summary_blocks is not None:
            backbone.read_blocks(recipe.adaptation.summary_blocks)
        if not isinstance(sources, Opened):
            recipe = with_truth(recipe, sources, told)
        jets = open_tables(recipe, sources, classes=recipe.classes, told=told)
        table = jets.table
        counts = class_counts(table)
        model = _model(recipe, backbone, table, adapted=pretrained is not None)
        if isinstance(model, Flavour):
            for warning in filter(None, (opposite_sign(table), wrong_unit(table))):
                told.note(warning)
        names = model.trained()
        trainable = sum(p.numel() for name, p in model.named_parameters() if name in names)
        told.note(f"mode {mode}: trainable {trainable:,} of {parameter_count(model):,} parameters; {FROZEN_IS[mode]}")
        if pretrained and recipe.adaptation.backbone_rate_multiplier == "auto" and model.phases.backbone_rate < 1:
            told.note(
                f"adaptation.backbone_rate_multiplier: auto takes {model.phases.backbone_rate:.2g} "
                f"for {len(table):,} labelled jets"
            )
        facts = carry_out(
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
                "parameters": parameter_count(model) - sum(parameter_count(update) for update in adapters(backbone)),
                "trainable_parameters": trainable,
                "mode": mode,
                "frozen": FROZEN_IS[mode],
                "pretrained": str(pretrained.resolve()) if pretrained else None,
                "class_counts": dict(zip(table.class_names, counts.tolist(), strict=True)),
            },
            described=ModelCard(
                f"A jettag tagger of {', '.join(table.class_names)}",
                ["classification"],
                "A jet classifier on a Particle Transformer backbone (arXiv:2202.03772).",
            ),
            # Heads of tracks read constituents, their charges and the jet: more than is kept in memory.
            precompute=recipe.adaptation.precompute and flavour_of(recipe) is None,
            criterion=ARGOS if recipe.selection == "argos" else None,
            pictures=pictures,
        )
        if isinstance(model, Flavour):
            facts = world.first(lambda: store_choices(out, jets.val_table, chosen, told.note))
        return facts


def _model(recipe: FinetuneRecipe, backbone: ParticleTransformer, table: Table, *, adapted: bool) -> Classification:
    """The objective on a backbone, ``adapted`` if it is a pre-trained one, with the weights that the jets give."""
    counts = class_counts(table)
    hidden = _head_hidden(recipe, backbone.dim)
    options: dict[str, Any] = {
        "class_weight": balancing(counts) if recipe.objective.balance_classes else None,
        "head_hidden": hidden,
        "attentive": recipe.mode == "attentive",
        "starts_fitted": recipe.mode in ("probe", "lpft") and recipe.adaptation.probe_start == "fitted" and not hidden,
        "phases": _phases(recipe, adapted=adapted, labels=len(table)),
        "lora": recipe.adaptation.lora.model_dump(mode="json") if recipe.mode == "lora" else None,
    }
    flavour = flavour_of(recipe)
    if flavour is None:
        smoothing = recipe.objective.label_smoothing
        return Classification(backbone, len(table.class_names), label_smoothing=smoothing, **options)
    weights = origin_weights(table) if flavour.origin and flavour.origin.balance_classes else None
    return Flavour(
        backbone,
        len(table.class_names),
        feature_names=table.feature_names,
        recipe=flavour,
        origin_weight=weights,
        **options,
    )


def _phases(recipe: FinetuneRecipe, *, adapted: bool, labels: int) -> Phases:
    """When the backbone is frozen, and its learning rate."""
    lpft, staged = recipe.adaptation.lpft, recipe.adaptation.staged
    slower = recipe.adaptation.backbone_rate_multiplier
    if slower == "auto":
        slower = backbone_rate(labels)
    if recipe.mode in ("head", "attentive"):
        return FROZEN
    if recipe.mode == "probe":
        return Phases(frozen=1.0, first_rate=recipe.adaptation.probe_rate_multiplier)
    if recipe.mode == "lpft":
        first = recipe.adaptation.probe_rate_multiplier
        return Phases(frozen=lpft.probe_share, restart=True, first_rate=first, backbone_rate=slower)
    if recipe.mode == "staged":
        return Phases(frozen=staged.frozen_share, ramp=staged.ramp_share, backbone_rate=slower)
    # The updates of mode lora begin at zero: what is new learns at the full rate.
    return Phases(backbone_rate=slower) if adapted and recipe.mode != "lora" else ALL_AT_ONCE


def _head_hidden(recipe: FinetuneRecipe, dim: int) -> tuple[int, ...]:
    """Widths of the head's hidden layers.

    Raises:
        RecipeError: hidden layers in a mode that has none.
    """
    if recipe.head_hidden == "auto":
        return (dim,) if recipe.mode == "head" else ()
    if recipe.head_hidden and recipe.mode in ("probe", "attentive"):
        raise RecipeError(f"mode {recipe.mode} has no hidden layers", where="head_hidden", do="use --mode head")
    return recipe.head_hidden
