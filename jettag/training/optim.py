"""Optimizer and learning-rate schedule, through timm where timm has it; steps that the device itself leaves out."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from timm.models import group_parameters
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from jettag.config.recipe import RANGER, TrainingRecipe
from jettag.objectives import Objective

__all__ = ["build_optimizer", "rate_factor", "set_learning_rate", "unchanged_if"]

# Lookahead (arXiv:1907.08610, k = 6, alpha = 0.5) over RAdam (arXiv:1908.03265) with decoupled decay, at the numbers
# with which weaver-core trains its published networks.
RANGER_IS: dict[str, Any] = {"opt": "lookahead_radamw", "betas": (0.95, 0.999), "eps": 1e-5}
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # bytes of a number to an integer of as many
ONE_CYCLE_RISE, ONE_CYCLE_START = 0.3, 25.0  # share of the run, divisor of the rate; torch's OneCycleLR has the same


def build_optimizer(model: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over everything that is trained in some phase of the run.

    In fp16 AdamW is the one that is told on the device of gradients that overflowed; others wait for the answer.
    Biases, norms and the tokens that ``backbone.no_weight_decay()`` names do not decay. Groups carry ``in_backbone``
    and ``lr_scale``: ``head_rate_multiplier`` outside the backbone; in it ``layer_decay`` to the power of the number of
    layers above, by timm's count (BEiT, arXiv:2106.08254): 0 for the last constituent block and the class blocks.
    """
    backbone = getattr(model, "backbone", None)
    undecayed = {f"backbone.{name}" for name in backbone.no_weight_decay()} if backbone is not None else set()
    depths = _depths(backbone) if backbone is not None and recipe.layer_decay != 1 else {}
    trained = model.trained() if isinstance(model, Objective) else None
    on_cuda = next(model.parameters()).device.type == "cuda"  # where one kernel does what else are a dozen
    groups: dict[tuple[bool, bool, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not (parameter.requires_grad if trained is None else name in trained):
            continue
        decays = parameter.ndim > 1 and not name.endswith("bias") and name not in undecayed
        in_backbone = name.startswith("backbone.")
        scale = recipe.layer_decay ** depths.get(name, 0) if in_backbone else recipe.head_rate_multiplier
        groups.setdefault((in_backbone, decays, scale), []).append(parameter)
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        [
            {
                "params": parameters,
                "weight_decay": recipe.weight_decay if decays else 0.0,
                "in_backbone": in_backbone,
                "lr_scale": scale,
            }
            for (in_backbone, decays, scale), parameters in groups.items()
        ],
        **(RANGER_IS if recipe.optimizer == RANGER else {"opt": recipe.optimizer}),
        **({"fused": True} if recipe.optimizer == "adamw" and (on_cuda or recipe.precision == "fp16") else {}),
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
    )
    return optimizer


def _depths(backbone: nn.Module) -> dict[str, int]:
    """Layers above each of the backbone's parameters."""
    layers: dict[str, int] = group_parameters(backbone, backbone.group_matcher(coarse=False), reverse=True)  # type: ignore[operator]
    top = max(layers.values())
    return {f"backbone.{name}": top - layer for name, layer in layers.items()}


def rate_factor(progress: float, recipe: TrainingRecipe) -> float:
    """Learning rate at ``progress`` (0 at the start, 1 at the end of the run) relative to the recipe's.

    ``one_cycle`` (Smith and Topin, arXiv:1708.07120) climbs from a 25th over the warm-up, or 30 % of the run where the
    recipe warms up for less, and falls to the final fraction, both along a cosine. ``flat_decay`` is constant for 70 %
    of the run, then falls exponentially (Particle Transformer, arXiv:2202.03772).
    """
    if recipe.schedule == "one_cycle":
        top = max(recipe.warmup_fraction, ONE_CYCLE_RISE)
        if progress < top:
            return _between(1 / ONE_CYCLE_START, 1.0, progress / top)
        return _between(1.0, recipe.final_rate_fraction, (progress - top) / (1 - top))
    if progress < recipe.warmup_fraction:
        return max(progress / recipe.warmup_fraction, 1e-3)
    final = recipe.final_rate_fraction
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "flat_decay":
        after = (progress - 0.7) / 0.3
        return 1.0 if after <= 0 else max(final, 1e-6) ** min(after, 1.0)
    after = min((progress - recipe.warmup_fraction) / (1 - recipe.warmup_fraction), 1.0)
    return _between(1.0, final, after)


def _between(begin: float, end: float, share: float) -> float:
    """Half a cosine from ``begin`` to ``end``."""
    return end + (begin - end) * 0.5 * (1 + math.cos(math.pi * share))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float, backbone_rate: float | None = None) -> None:
    """Set each group's learning rate to ``rate``, or in the backbone ``backbone_rate``, times its ``lr_scale``."""
    for group in optimizer.param_groups:
        own = rate if backbone_rate is None or not group["in_backbone"] else backbone_rate
        group["lr"] = own * group["lr_scale"]


@contextlib.contextmanager
def unchanged_if(bad: Tensor, tensors: Sequence[Tensor]) -> Iterator[None]:
    """Give ``tensors`` back their bits after what is done inside, where ``bad`` is True, without asking the device.

    Numbers that are not finite spoil every sum and product; bits taken as integers are multiplied by one or zero.
    Inside, there is a second copy of them.

    Args:
        bad: () bool, on the device of the tensors.
        tensors: floating point, contiguous or not, whole or parts of others.
    """
    bits: dict[torch.dtype, list[Tensor]] = {}
    for x in tensors:
        bits.setdefault(BITS[x.element_size()], []).append(x.detach().view(BITS[x.element_size()]))
    kept = {dtype: torch._foreach_mul(now, bad.to(dtype)) for dtype, now in bits.items()}
    yield
    for dtype, now in bits.items():
        torch._foreach_mul_(now, (~bad).to(dtype))
        torch._foreach_add_(now, kept[dtype])
