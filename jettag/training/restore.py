"""From a run on disk back to a network: strictly, and with the facts that tell what it may be fed."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jettag.config.flavour import FlavourRecipe
from jettag.errors import CheckpointError
from jettag.models.adapters import add_lora, merge_lora
from jettag.models.features import adapt_features
from jettag.models.particle_transformer import ParticleTransformer
from jettag.objectives import Classification, Flavour
from jettag.objectives.tokenizer import Tokenizer
from jettag.training.checkpoint import load_model_state
from jettag.training.run_directory import read_run

__all__ = ["Tagger", "features_of", "load_backbone", "load_strictly", "load_tagger", "load_tokenizer"]


@dataclass(frozen=True)
class Tagger:
    """A trained classifier, ready to be asked.

    Attributes:
        model: in evaluation mode.
        features: name of the feature set it was trained on.
        class_names: of its outputs, in their order.
        max_constituents: it was trained with.
        run: the run directory it came from.
        facts: ``run.json``.
    """

    model: Classification
    features: str
    class_names: tuple[str, ...]
    max_constituents: int
    run: Path
    facts: dict[str, Any]


def load_backbone(
    place: Path, feature_names: Sequence[str], *, adapt: Callable[[str], None] | None = None
) -> tuple[ParticleTransformer, dict[str, Any]]:
    """The backbone of a run or checkpoint, strictly, and the settings it was saved with; low-rank updates are merged.

    Args:
        place: a run or checkpoint.
        feature_names: what the backbone will be fed.
        adapt: adapt a backbone of other features to these, and tell what changed; None refuses it.

    Raises:
        CheckpointError: it was trained on other features, or its tensors do not fit.
    """
    state, saved, folder = load_model_state(place)
    settings = saved["settings"]
    if "backbone" not in settings:
        raise CheckpointError("a tokenizer has no backbone", where=folder, do="give a run of jettag pretrain mpm")
    known = list(settings["feature_names"])
    if known != list(feature_names) and adapt is None:
        raise CheckpointError(
            f"the backbone was trained on {settings['features']}, the recipe's {_differ(known, feature_names)}",
            where=folder,
            do=f"use --set data.features={settings['features']}, or finetune with --adapt-features",
        )
    backbone = ParticleTransformer(**settings["backbone"])
    if settings.get("lora"):
        add_lora(backbone, **settings["lora"])
    load_strictly(
        backbone, {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}, folder
    )
    if settings.get("lora"):
        merge_lora(backbone)
    if known != list(feature_names) and adapt is not None:
        adapted = adapt_features(backbone, known, feature_names)
        adapt(f"features matched by name: the recipe's {_differ(known, feature_names)}; new ones start at zero weight")
        backbone = adapted.backbone
    return backbone.requires_grad_(True), settings


def _differ(known: Sequence[str], given: Sequence[str]) -> str:
    """How features that are given differ from those that are known, in words."""
    new = [name for name in given if name not in known]
    lacking = [name for name in known if name not in given]
    parts = [f"{what} {', '.join(names)}" for what, names in (("add", new), ("lack", lacking)) if names]
    return " and ".join(parts) or "are the same in another order"


def load_tokenizer(place: Path, feature_names: Sequence[str]) -> tuple[Tokenizer, str]:
    """The tokenizer of a run or checkpoint, strictly, and the SHA-256 of its tensors.

    Raises:
        CheckpointError: there is none, it is of other features, or its tensors do not fit.
    """
    state, saved, folder = load_model_state(place)
    settings = saved["settings"]
    if "tokenizer" not in settings or "backbone" in settings:
        raise CheckpointError("not a tokenizer", where=folder, do="train one: jettag pretrain tokenizer")
    if list(settings["feature_names"]) != list(feature_names):
        raise CheckpointError(
            f"the tokenizer was trained on {settings['features']}, the recipe has other features",
            where=folder,
            do=f"use --set data.features={settings['features']}",
        )
    tokenizer = Tokenizer(tuple(feature_names), **settings["tokenizer"])
    state = {key.removeprefix("tokenizer."): value for key, value in state.items()}
    load_strictly(tokenizer, state, folder)
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode() + state[key].contiguous().numpy().tobytes())
    return tokenizer, digest.hexdigest()


def features_of(place: Path) -> tuple[str, tuple[str, ...], int, Path]:
    """What a run's backbone is fed: feature set, feature names, most constituents; and the run directory."""
    _, saved, folder = load_model_state(place)
    settings = saved["settings"]
    return settings["features"], tuple(settings["feature_names"]), settings["max_constituents"], folder.parent.parent


def load_strictly(module: torch.nn.Module, state: dict[str, torch.Tensor], where: Path) -> None:
    """Load every tensor, and no other.

    Raises:
        CheckpointError: naming the first tensors that are missing, unknown or of another shape.
    """
    own = module.state_dict()
    wrong = [f"{key} missing" for key in own if key not in state]
    wrong += [f"{key} unknown" for key in state if key not in own]
    wrong += [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(f"tensors do not fit the model: {', '.join(wrong[:3])}{more}", where=where)
    module.load_state_dict(state)


def load_tagger(place: Path) -> Tagger:
    """The classifier of a run or checkpoint.

    Raises:
        CheckpointError: there is none, it is damaged, or the run has no classes.
    """
    state, saved, folder = load_model_state(place)
    settings = saved["settings"]
    if not settings["class_names"]:
        raise CheckpointError(
            "a pre-trained backbone has no classes", where=folder, do="fine-tune it first: jettag finetune --from RUN"
        )
    run = folder.parent.parent
    backbone = ParticleTransformer(**settings["backbone"])
    options: dict[str, Any] = {
        "head_hidden": settings["head_hidden"],
        "attentive": settings.get("attentive", False),
        "lora": settings.get("lora"),
    }
    model: Classification
    if "flavour" in settings:
        recipe = FlavourRecipe.model_validate(settings["flavour"])
        features = settings["feature_names"]
        model = Flavour(backbone, len(settings["class_names"]), feature_names=features, recipe=recipe, **options)
    else:
        model = Classification(backbone, len(settings["class_names"]), **options)
    load_strictly(model, state, folder)
    if model.lora is not None:
        merge_lora(model.backbone)
    return Tagger(
        model=model.eval(),
        features=settings["features"],
        class_names=tuple(settings["class_names"]),
        max_constituents=settings["max_constituents"],
        run=run,
        facts=read_run(run),
    )
