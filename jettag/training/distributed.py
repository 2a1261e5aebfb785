"""Several processes that train together, as torchrun starts them; one process is the case of size 1.

Every process reads the same batches in the same order and takes its share of each, so the order, what is drawn for a
batch and the batch's loss do not depend on how many there are. Decisions (stop, save, end) travel between the hosts
and never through an accelerator.
"""

import contextlib
import inspect
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from jettag.errors import JettagError, ResourceError, UsageError

__all__ = ["ALONE", "World", "join", "spread"]

T = TypeVar("T")
MPS_IS_RIGHT = torch.__version__ >= "2.14"  # before, of layer normalisation on a frozen network, and fp16 overflows


@dataclass(frozen=True)
class World:
    """Who trains: ``rank`` of ``size`` processes, the ``local_rank``-th on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """The process that writes and speaks."""
        return self.rank == 0

    def device(self, chosen: torch.device) -> torch.device:
        """This process's own, of several CUDA devices on a machine.

        Raises:
            ResourceError: processes cannot meet on MPS.
        """
        if self.size > 1 and chosen.type == "mps":
            raise ResourceError(
                f"{self.size} processes cannot train together on mps", do="use one process, or --device cpu"
            )
        if self.size == 1 or chosen.type != "cuda":
            return chosen
        own = torch.device("cuda", self.local_rank)
        torch.cuda.set_device(own)
        return own

    def sum(self, x: Tensor) -> Tensor:
        """The sum over all processes, on the tensor's device."""
        if self.size > 1:
            dist.all_reduce(x)
        return x

    def most(self, *numbers: float) -> tuple[float, ...]:
        """Of each number the largest that any process has."""
        if self.size == 1:
            return numbers
        agreed = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(agreed, op=dist.ReduceOp.MAX)
        return tuple(agreed.tolist())

    def gather(self, x: Tensor) -> list[Tensor]:
        """The tensor of every process, in order of rank; on the CPU, all of one shape."""
        if self.size == 1:
            return [x]
        found = [torch.empty_like(x) for _ in range(self.size)]
        dist.all_gather(found, x)
        return found

    def union(self, members: list[T]) -> list[T]:
        """What all processes have, in order of rank."""
        if self.size == 1:
            return members
        found: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(found, members)
        return [member for of_rank in found for member in of_rank]

    def first(self, function: Callable[[], T]) -> T:
        """Let the first process call ``function``; all return what it returned, or raise what it raised."""
        if self.size == 1:
            return function()
        answer: list[Any] = [None, None]
        if self.is_first:
            try:
                answer[0] = function()
            except JettagError as error:
                answer[1] = error
        dist.broadcast_object_list(answer, src=0)
        if answer[1] is not None:
            raise answer[1]
        found: T = answer[0]
        return found


ALONE = World()


def spread(model: nn.Module, world: World) -> Any:
    """The model with its gradients averaged over all processes; itself where there is one, or where it is sharded.

    Buffers are not exchanged at every step: batch statistics are taken over all processes, so they are equal.
    """
    if world.size == 1 or isinstance(model, FSDPModule):
        return model
    for buffer in model.buffers():
        dist.broadcast(buffer, src=0)
    # The option was renamed in torch 2.14.
    name = "forward_sync_buffers" if "forward_sync_buffers" in _ddp_options() else "broadcast_buffers"
    options: dict[str, Any] = {name: False}
    return DistributedDataParallel(model, gradient_as_bucket_view=True, **options)


def _ddp_options() -> set[str]:
    return set(inspect.signature(DistributedDataParallel.__init__).parameters)


@contextlib.contextmanager
def join() -> Iterator[World]:
    """Meet the processes that torchrun started beside this one; leave them at the end.

    Raises:
        ResourceError: another process ended in the middle; its own message tells why.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield ALONE
        return
    world = World(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield world
    except (dist.DistError, RuntimeError) as error:
        if not _is_lost_peer(error):
            raise
        raise ResourceError(
            f"another process of this training ended (seen by process {world.rank} of {size})",
            do="its message is the cause; go on with --resume",
        ) from None
    finally:
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


def _is_lost_peer(error: Exception) -> bool:
    """Whether an exchange failed because a peer is gone: gloo has no type for it, NCCL has."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error)
    return "gloo" in text or "Connection closed by peer" in text or "Connection reset by peer" in text


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 is what the device multiplies fastest: every accelerator here, and CPUs with instructions for it."""
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def in_precision(device: torch.device, half: bool) -> torch.autocast:
    """bf16 mixed precision within, where ``half`` says so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


def choose_device(name: str) -> torch.device:
    """``auto`` takes CUDA, then MPS if this PyTorch is right there, then the CPU.

    Raises:
        UsageError: no device has this name.
        ResourceError: the device asked for is not there, or this PyTorch has wrong gradients on it.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise UsageError(f"no device is called {name!r}", where="--device", do="say auto, cpu, cuda or mps")
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() and MPS_IS_RIGHT else "cpu")
    if name == "mps" and not MPS_IS_RIGHT:
        raise ResourceError(
            f"PyTorch {torch.__version__} has wrong gradients on mps (pytorch #183825, #186360)",
            do="use PyTorch 2.14 or later, or --device cpu",
        )
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]  # what follows is pages of backends
        raise ResourceError(f"device {name!r} cannot be used ({reason})", do="use --device auto or cpu") from None
    return device
