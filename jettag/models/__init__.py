"""Backbones by name and size, and the heads that go on them."""

from typing import Any

from jettag.errors import RecipeError, nearest
from jettag.models.heads import ClassHead
from jettag.models.particle_transformer import Encoded, ParticleTransformer

__all__ = ["BACKBONES", "SIZES", "ClassHead", "Encoded", "ParticleTransformer", "build_backbone"]

BACKBONES: dict[str, type[ParticleTransformer]] = {"particle_transformer": ParticleTransformer}

# `base` is the published network, 2.1 M parameters. `tiny` (0.14 M) keeps every part of it at a size that two CPU
# cores train in minutes (RESULTS.md); dropout is left out: it costs time, and small networks
# underfit. `small` (0.9 M) lies between. `large` (59 M) is wider and twice as deep, for many jets on accelerators.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "dim": 64,
        "embed_dims": [64, 64],
        "pair_dims": [16],
        "num_heads": 4,
        "num_layers": 3,
        "num_class_layers": 1,
        "mlp_ratio": 2,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    },
    "small": {
        "dim": 96,
        "embed_dims": [96, 192, 96],
        "pair_dims": [32, 32, 32],
        "num_heads": 8,
        "num_layers": 6,
        "num_class_layers": 2,
    },
    "base": {
        "dim": 128,
        "embed_dims": [128, 512, 128],
        "pair_dims": [64, 64, 64],
        "num_heads": 8,
        "num_layers": 8,
        "num_class_layers": 2,
    },
    "large": {
        "dim": 512,
        "embed_dims": [512, 2048, 512],
        "pair_dims": [64, 64, 64],
        "num_heads": 16,
        "num_layers": 16,
        "num_class_layers": 2,
        "drop_path": 0.1,
        "checkpointing": True,
    },
}


def build_backbone(name: str, size: str, num_features: int, **overrides: Any) -> ParticleTransformer:
    """A backbone with fresh weights.

    Args:
        name: a key of `BACKBONES`.
        size: a key of `SIZES`.
        num_features: F.
        overrides: settings that replace those of the size.

    Returns:
        a module with ``dim``, ``num_features`` and ``settings()``.

    Raises:
        RecipeError: an unknown name, size or setting; the nearest known ones are offered.
    """
    if name not in BACKBONES:
        raise RecipeError(f"unknown backbone {name!r}", where="backbone", do=nearest(name, BACKBONES))
    if size not in SIZES:
        raise RecipeError(f"unknown size {size!r}", where="backbone", do=nearest(size, SIZES))
    known = BACKBONES[name].__init__.__kwdefaults__ or {}
    for key in overrides:
        if key not in known:
            raise RecipeError(f"unknown setting {key!r} of {name}", where="backbone", do=nearest(key, known))
    return BACKBONES[name](num_features, **{**SIZES[size], **overrides})
