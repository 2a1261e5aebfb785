"""Threads that each work on jets of their own, instead of all of them on one small operation after the other.

For the CPU. A group of jets (`jettag.models.layout`) is small enough for the cache of a core, and too small to be
divided: two threads that share every operation wait for each other after each, two threads with groups of their own
once a batch. PyTorch's own threads stay with whoever calls; those here have one each.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from jettag.models.dropout import drawing

__all__ = ["are_worth_it", "one_thread", "shared", "shared_graphs"]

T = TypeVar("T")
Job = Callable[..., tuple[Tensor, ...]]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within, this thread does everything itself."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def are_worth_it(device: torch.device, number: int) -> bool:
    """Whether so many pieces of work on this device are for several threads."""
    return device.type == "cpu" and number > 1 and torch.get_num_threads() > 1


def shared(function: Callable[..., T], arguments: Sequence[tuple[Any, ...]], device: torch.device) -> list[T]:
    """What ``function``, which draws nothing, makes of each set of arguments on the device."""
    if not are_worth_it(device, len(arguments)):
        return [function(*x) for x in arguments]
    here = _Surroundings.of_this_thread()
    return _done([partial(here.run, function, *x) for x in arguments])


def shared_graphs(
    jobs: Sequence[Job],
    inputs: Sequence[Sequence[Tensor]],
    parameters: Sequence[Tensor],
    *,
    draw: bool,
    one_by_one: bool = False,
) -> list[tuple[Tensor, ...]]:
    """The outputs of every job from its inputs, with gradients for the inputs and for the parameters.

    Sums over jobs are taken in their order, so the outcome does not depend on which thread was faster. One can go back
    once, and no hook of a parameter should change its gradient. While they go back, every thread has a gradient of
    every parameter.

    Args:
        jobs: functions of tensors; all give equally many.
        inputs: of each job.
        parameters: what else the jobs depend on and wants a gradient.
        draw: what jobs drop comes from generators of their own, which PyTorch's generator seeds; without, they must
            not drop anything.
        one_by_one: in turn, where jobs prepare what later ones need as well: threads would each do so.
    """
    seeds = torch.empty(len(jobs), dtype=torch.int64).random_().tolist() if draw else [None] * len(jobs)
    if not torch.is_grad_enabled():
        here = _Surroundings.of_this_thread()
        sets = zip(jobs, seeds, inputs, strict=True)
        return _done([partial(here.run, _run, job, seed, *x) for job, seed, x in sets], one_by_one)
    flat = [x for group in inputs for x in group]
    results: tuple[Tensor, ...] = _Graphs.apply(jobs, seeds, [len(x) for x in inputs], one_by_one, *flat, *parameters)
    width = len(results) // len(jobs)
    return [results[place : place + width] for place in range(0, len(results), width)]


class _Graphs(torch.autograd.Function):
    """A graph for every job, and threads that go back through them."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        jobs: Sequence[Job],
        seeds: Sequence[int | None],
        numbers: Sequence[int],
        one_by_one: bool,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        here = _Surroundings.of_this_thread()._replace(learning=True)
        leaves, calls, begin = [], [], 0
        for job, seed, number in zip(jobs, seeds, numbers, strict=True):
            own = [x.detach().requires_grad_(x.requires_grad) for x in tensors[begin : begin + number]]
            leaves.append(own)
            calls.append(partial(here.run, _run, job, seed, *own))
            begin += number
        outputs = _done(calls, one_by_one)
        ctx.set_materialize_grads(False)
        ctx.graphs = list(zip(leaves, outputs, strict=True))  # type: ignore[attr-defined]
        ctx.parameters, ctx.one_by_one = tensors[begin:], one_by_one  # type: ignore[attr-defined]
        return tuple(x.detach() for of_job in outputs for x in of_job)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        graphs, ctx.graphs = ctx.graphs, None  # type: ignore[attr-defined]
        if graphs is None:
            msg = "the gradients of one pass were asked for twice; set the number of threads to 1 for that"
            raise RuntimeError(msg)
        total = _Sum()
        calls, begin = [], 0
        for place, (leaves, outputs) in enumerate(graphs):
            given = gradients[begin : begin + len(outputs)]
            calls.append(partial(_gradients, place, leaves, outputs, given, ctx.parameters, total))  # type: ignore[attr-defined]
            begin += len(outputs)
        of_inputs = [x for found in _done(calls, ctx.one_by_one) for x in found]  # type: ignore[attr-defined]
        return None, None, None, None, *of_inputs, *total.parts


class _Sum:
    """The sum of what jobs give, in the order of the jobs."""

    def __init__(self) -> None:
        self.parts: list[Tensor | None] = []
        self._own: set[int] = set()
        self._waiting: dict[int, Sequence[Tensor | None]] = {}
        self._next = 0
        self._lock = threading.Lock()

    def add(self, place: int, parts: Sequence[Tensor | None]) -> None:
        """Add what the job at ``place`` gives, once those before it are there."""
        with self._lock:
            self._waiting[place] = parts
            while self._next in self._waiting:
                self._add(self._waiting.pop(self._next))
                self._next += 1

    def _add(self, parts: Sequence[Tensor | None]) -> None:
        self.parts = self.parts or [None] * len(parts)
        for at, part in enumerate(parts):
            before = self.parts[at]
            if part is None or before is None:
                self.parts[at] = part if before is None else before
            elif at in self._own:
                before.add_(part)
            else:  # the first may be a view of something else
                self.parts[at] = before + part
                self._own.add(at)


def _gradients(
    place: int,
    leaves: Sequence[Tensor],
    outputs: Sequence[Tensor],
    given: Sequence[Tensor | None],
    parameters: Sequence[Tensor],
    total: _Sum,
) -> list[Tensor | None]:
    """The gradients of one job's inputs; those of the parameters join the total."""
    wanted = [x for x in (*leaves, *parameters) if x.requires_grad]
    asked = [(x, y) for x, y in zip(outputs, given, strict=True) if y is not None and x.requires_grad]
    found: Sequence[Tensor | None] = [None] * len(wanted)
    if asked and wanted:
        found = torch.autograd.grad([x for x, _ in asked], wanted, [y for _, y in asked], allow_unused=True)
    left = iter(found)
    of_all = [next(left) if x.requires_grad else None for x in (*leaves, *parameters)]
    total.add(place, of_all[len(leaves) :])
    return of_all[: len(leaves)]


def _run(job: Job, seed: int | None, *inputs: Tensor) -> tuple[Tensor, ...]:
    with contextlib.nullcontext() if seed is None else drawing(seed):
        return job(*inputs)


class _Surroundings(NamedTuple):
    """What a thread has switched on, of which other threads know nothing."""

    learning: bool
    inferring: bool
    mixed: bool
    dtype: torch.dtype

    @classmethod
    def of_this_thread(cls) -> "_Surroundings":
        mixed, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        return cls(torch.is_grad_enabled(), torch.is_inference_mode_enabled(), mixed, dtype)

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call ``function`` as this thread would."""
        # Weights that autocast keeps would be in the graphs of several threads.
        autocast = torch.autocast("cpu", self.dtype, enabled=self.mixed, cache_enabled=False)
        with torch.inference_mode(self.inferring), torch.set_grad_enabled(self.learning), autocast:
            return function(*arguments)


def _started(function: Callable[..., T], *arguments: Any) -> "Future[T]":
    return _pool(torch.get_num_threads()).submit(function, *arguments)


def _done(calls: Sequence[Callable[[], T]], one_by_one: bool = False) -> list[T]:
    """What the calls give, each in one of the threads."""
    if one_by_one:
        return [_started(call).result() for call in calls]
    return _results([_started(call) for call in calls])


def _results(running: Sequence["Future[T]"]) -> list[T]:
    try:
        return [job.result() for job in running]
    finally:
        for job in running:
            job.cancel()


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """So many threads that divide no operation any further."""
    ready = threading.Barrier(threads + 1)

    def begin() -> None:
        torch.get_num_threads()  # the first time a thread asks, it takes the number of the others
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(threads, thread_name_prefix="jets", initializer=begin)
    try:
        for _ in range(threads):
            pool.submit(int)
        ready.wait()
    except BaseException:
        ready.abort()  # or those that wait would keep the process from ending
        raise
    finally:
        torch.set_num_threads(threads)  # the number above is each thread's own, but also that of threads to come
    return pool


if hasattr(os, "register_at_fork"):  # a child has the pool without its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
