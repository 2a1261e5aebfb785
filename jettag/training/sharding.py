"""Parameters, gradients, averages and optimizer states dealt out to the processes: FSDP2, for networks too big for one.

Each process keeps its part of every parameter; a block's parameters are gathered while the block computes. Checkpoints
hold whole tensors, so one and the same checkpoint is resumed sharded, unsharded, or by another number of processes.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from jettag.config.recipe import TrainingRecipe
from jettag.errors import RecipeError
from jettag.training.distributed import World

__all__ = ["clip", "like", "load_whole", "parts", "refuse_unshardable", "shard", "whole"]

# Those whose 20 steps on two processes were those of one. Lion's signs flip with rounding; Muon's matrix products and
# Lookahead's copies were not tried.
SHARDABLE = ("adamw", "nadamw", "sgd")


def refuse_unshardable(recipe: TrainingRecipe, device: torch.device, world: World) -> None:
    """See that the recipe can be trained sharded.

    Raises:
        RecipeError: it cannot, and why.
    """
    if world.size == 1 or recipe.parallel != "fsdp":
        return
    if recipe.optimizer not in SHARDABLE:
        raise RecipeError(
            f"optimizer {recipe.optimizer} cannot be sharded",
            where="training.parallel=fsdp",
            do=f"use one of {', '.join(SHARDABLE)}, or parallel=ddp",
        )
    if device.type not in ("cpu", "cuda"):
        raise RecipeError(
            f"parameters cannot be sharded on {device.type}",
            where="training.parallel=fsdp",
            do="use --device cpu",
        )


def shard(model: nn.Module, device: torch.device, world: World) -> nn.Module:
    """Deal out a model's parameters, in place: each block of its module lists by itself, the rest together.

    Everybody begins with the first process's parameters and buffers. Buffers stay whole: batch statistics are taken
    over all processes and are equal.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), src=0)
    mesh = init_device_mesh(device.type, (world.size,))
    backbone = getattr(model, "backbone", None)
    if backbone is not None:
        backbone.one_group = True  # a block's call is an exchange: equally many on every process
    blocks = [b for module in model.modules() if isinstance(module, nn.ModuleList) for b in module if _calls(b)]
    for module in (*blocks, model):
        if any(True for _ in module.parameters()):
            fully_shard(module, mesh=mesh)
    # FSDP moves tensors that are given by name to the device, too, and waits for that; the host reads them first.
    model.register_forward_pre_hook(_hidden, with_kwargs=True, prepend=True)
    model.register_forward_pre_hook(_shown, with_kwargs=True)
    for module in model.modules():
        if isinstance(module, FSDPModule) and device.type == "cpu":
            module.set_force_sum_reduction_for_comms(True)  # gloo cannot average
    return model


class _OnHost:
    """A tensor that stays where it is."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _hidden(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return args, {name: _OnHost(x) if isinstance(x, Tensor) else x for name, x in kwargs.items()}


def _shown(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return args, {name: x.tensor if isinstance(x, _OnHost) else x for name, x in kwargs.items()}


def _calls(module: nn.Module) -> bool:
    """Whether a member of a list is a block, whose parameters are used in its own forward and nowhere else."""
    return any(True for _ in module.children())


def parts(tensors: Any) -> list[Tensor]:
    """This process's part of each tensor, to be changed in place."""
    return [x.to_local() if isinstance(x, DTensor) else x for x in tensors]


def whole(tensors: Mapping[str, Tensor], world: World) -> dict[str, Tensor]:
    """Tensors as they are without sharding, on the first process; empty parts of a dict elsewhere.

    Every process must call it, with the same names in the same order.
    """
    found = {}
    for name, x in tensors.items():
        full = x.full_tensor() if isinstance(x, DTensor) else x
        if world.is_first:  # the others drop theirs at once: one tensor at a time is whole there
            found[name] = full.detach().cpu() if isinstance(x, DTensor) else full
    return found


def like(value: Tensor, own: Tensor) -> Tensor:
    """A whole tensor, dealt out as ``own`` is; itself where ``own`` is whole or of another shape."""
    if not isinstance(own, DTensor) or value.shape != own.shape:
        return value
    # src_data_rank=None: every process has read the file, nothing needs to travel.
    return distribute_tensor(value.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def load_whole(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load whole tensors into a module, sharded or not; every name must fit."""
    own = module.state_dict()
    module.load_state_dict({name: like(value, own[name]) if name in own else value for name, value in tensors.items()})


def clip(model: nn.Module, most: float | None) -> Tensor:
    """Scale the gradients down to a norm of at most ``most``; returns what the norm was, over all processes."""
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    if most is not None:
        nn.utils.clip_grads_with_norm_(parameters, most, norm)
    return norm
