"""Dropout, and on the CPU what decides on it: bytes of a generator faster than PyTorch's."""

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from jettag.models.traced import dropped, is_traced

__all__ = ["Kept", "Random", "drawing", "dropout", "source"]

LEVELS = 256  # of a random byte


def dropout(x: Tensor, drop: float, random: "Random | None" = None) -> Tensor:
    """``x`` with each entry 0 with probability ``drop`` and divided by 1 - drop otherwise.

    On the CPU PyTorch draws one Mersenne-Twister number for each entry, and keeps the outcome in the type of ``x``;
    here a byte of a faster generator, which `Random` seeds, decides, and is what is kept for the gradient.

    Args:
        x: of any shape.
        drop: the probability.
        random: decides on the CPU; one of its own without.
    """
    if not drop:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, drop)
    random = random or Random(x, x.numel())
    if is_traced(x):
        return random.dropped(x, drop)
    result: Tensor = _Dropout.apply(x, random.kept(x.shape, drop))
    return result


_OF_THREAD = threading.local()


@contextlib.contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Let what this thread drops depend on a seed of its own, instead of on PyTorch's generator."""
    before = source()
    _OF_THREAD.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        _OF_THREAD.generator = before


def source() -> torch.Generator | None:
    """This thread's own generator on the CPU, or None for PyTorch's."""
    return getattr(_OF_THREAD, "generator", None)


class Random:
    """What decides on the CPU which entries are dropped, seeded by PyTorch's generator or by that of `drawing`.

    A byte alone could have probabilities in steps of 1/256. So a mask has one of the two levels next to 256 times the
    probability, each as often as makes every entry's probability right; the last 1/256 before 1 cannot be had.

    Args:
        like: a tensor on the CPU; a compiler wants to see one.
        number: of entries to decide on.
    """

    def __init__(self, like: Tensor, number: int) -> None:
        drawn: tuple[Any, ...] = _drawn(like, number) if torch.compiler.is_compiling() else _draw(number)
        self._bytes: Tensor = drawn[0]
        self._shares = drawn[1:]
        self._place = 0

    def kept(self, shape: Sequence[int], drop: float) -> "Kept":
        """Entries of this shape, dropped with probability ``drop``."""
        return Kept(self._next(shape), min(int(LEVELS * drop + self._shares[0]), LEVELS - 1), 1 / (1 - drop))

    def dropped(self, x: Tensor, drop: float) -> Tensor:
        """``x`` without what is dropped, the rest multiplied, for a compiler."""
        levels = [(LEVELS * drop + share).clamp(max=LEVELS - 1).to(torch.uint8) for share in self._shares]
        return dropped(x, self._next(x.shape), levels[0], levels[1], 1 / (1 - drop))

    def _next(self, shape: Sequence[int]) -> Tensor:
        begin, self._place = self._place, self._place + math.prod(shape)
        return self._bytes[begin : self._place].view(shape)


def _draw(number: int) -> tuple[Tensor, float]:
    """So many random bytes or some more, and a random number between 0 and 1."""
    seed = int(torch.empty((), dtype=torch.int64).random_(generator=source()))
    draws = np.random.SFC64(seed).random_raw((number + 7) // 8)
    return torch.from_numpy(draws).view(torch.uint8), seed % (1 << 32) / (1 << 32)


@torch.library.custom_op("jettag::drawn", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,))
def _drawn(like: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG001
    """`_draw` as one opaque operation for a compiler, whose own generator is slower; the share twice (`dropped`)."""
    draws, share = _draw(number)
    return draws, torch.tensor(share, dtype=torch.float64), torch.tensor(share, dtype=torch.float64)


@_drawn.register_fake
def _(like: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
    draws = like.new_empty((number + 7) // 8 * 8, dtype=torch.uint8)
    return draws, like.new_empty((), dtype=torch.float64), like.new_empty((), dtype=torch.float64)


class Kept(NamedTuple):
    """Which entries of a tensor on the CPU are kept, and what they are multiplied by.

    Attributes:
        bytes: entries below the level are dropped.
        level: see `Random`.
        height: one over the probability of being kept.
    """

    bytes: Tensor
    level: int
    height: float

    def as_numbers(self, dtype: torch.dtype) -> Tensor:
        """0 and 1, in the type of what they multiply: a product of bool and float costs five times as much."""
        return torch.ge(self.bytes, self.level, out=torch.empty(self.bytes.shape, dtype=dtype))

    def thinned(self, x: Tensor) -> Tensor:
        """``x`` without what is dropped, the rest multiplied."""
        return self.as_numbers(x.dtype).mul_(self.height).mul_(x)


class _Dropout(torch.autograd.Function):
    """`dropout` on the CPU."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, kept: Kept) -> Tensor:
        ctx.save_for_backward(kept.bytes)
        ctx.rest = kept[1:]  # type: ignore[attr-defined]
        return kept.thinned(x)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return Kept(*ctx.saved_tensors, *ctx.rest).thinned(gradient), None  # type: ignore[attr-defined]
