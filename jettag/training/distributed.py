"""Several processes that train together, as torchrun starts them; one process is the case of size 1.

Every process reads the same batches in the same order and takes its share of each, so the order, what is drawn for a
batch and the batch's loss do not depend on how many there are. Decisions (stop, save, end) travel between the hosts
and never through an accelerator.
"""

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from jettag.errors import JettagError, ResourceError, Stopped

__all__ = ["ALONE", "World", "join", "processes", "spread"]

T = TypeVar("T")
# With one that does something alone, such as reading terabytes for their checksums; torchrun ends those that wait for
# one that died.
PATIENCE = timedelta(hours=4)


@dataclass(frozen=True)
class World:
    """Who trains: ``rank`` of ``size`` processes."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """The process that writes and speaks."""
        return self.rank == 0

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


def processes() -> int:
    """How many torchrun started to train together, this one among them."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


@contextlib.contextmanager
def join() -> Iterator[World]:
    """Meet the processes that torchrun started beside this one; leave them at the end.

    Raises:
        ResourceError: another process ended in the middle; its own message tells why.
    """
    if processes() == 1:
        yield ALONE
        return
    world = World(int(os.environ["RANK"]), processes())
    by_nccl = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group("cpu:gloo,cuda:nccl" if by_nccl else "gloo", timeout=PATIENCE)
    in_step = False  # with the others at the end
    try:
        yield world
        in_step = True
    except Stopped:
        in_step = True
        raise
    except (dist.DistError, RuntimeError) as error:
        if not _is_lost_peer(error):
            raise
        raise ResourceError(
            f"another process of this training ended (seen by process {world.rank} of {world.size})",
            do="its message is the cause; go on with --resume",
        ) from None
    finally:
        if in_step or not by_nccl:  # NCCL's would wait for those that wait for this one
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()


def _is_lost_peer(error: Exception) -> bool:
    """Whether an exchange failed because a peer is gone: gloo has no type for it, NCCL has."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error)
    return "gloo" in text or "Connection closed by peer" in text or "Connection reset by peer" in text
