"""Mixed samples: which jets of known pools form two samples of unknown composition (CWoLa, arXiv:1708.02949).

M1 holds a fraction f1 of signal and M2 a smaller one f2. A classifier of M1 against M2 orders jets as one of signal
against background does, where the classes look alike in both samples, and its AUC is 1/2 + (f1 - f2)(A - 1/2) with A
that of signal against background.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from jettag.errors import DataError, UsageError, nearest

__all__ = ["METHODS", "Method", "Mixture", "check_fractions", "check_method", "draw_mixture"]

Method = Literal["cwola", "iad", "supervised"]
METHODS: dict[str, str] = {
    "cwola": "M1 against M2, mixed samples without labels",
    "iad": "M1 against background alone: the idealised anomaly detector, which bounds weak methods",
    "supervised": "all signal against all background with true labels: the ceiling",
}
assert set(METHODS) == set(get_args(Method))


@dataclass(frozen=True)
class Mixture:
    """The jets of one training, and what it is told of them.

    Attributes:
        background: (b,) rows of the background pool.
        signal: (s,) rows of the signal pool.
        label: (b + s,) 1 for the sample with more signal, 0 for the other; background first. True labels are these
            only where the method is supervised.
        n_signal: signal jets in the sample with more signal.
        n_background: background jets in it.
    """

    background: npt.NDArray[np.int64]
    signal: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    n_signal: int
    n_background: int


def check_method(name: str) -> None:
    """Refuse a method that does not exist.

    Raises:
        UsageError: naming the nearest ones.
    """
    if name not in METHODS:
        raise UsageError(f"no method {name!r}", do=nearest(name, METHODS))


def check_fractions(first: float, second: float) -> None:
    """Refuse signal fractions with which there is nothing to tell apart.

    Raises:
        UsageError: a fraction outside [0, 1), or M2 richer than M1.
    """
    for option, value in (("--fraction", first), ("--other-fraction", second)):
        if value == 1:
            raise UsageError("one class after the mixing", where=f"{option} {value:g}", do="give less than 1")
        if not 0 <= value < 1:
            raise UsageError(f"expected a signal fraction from 0 to below 1, found {value:g}", where=option)
    if second > first > 0:
        raise UsageError(f"M2 would hold more signal than M1 ({second:g} over {first:g})", do="swap the fractions")


def draw_mixture(
    method: str,
    n_background: int,
    n_signal: int,
    *,
    fraction: float,
    other_fraction: float = 0.0,
    seed: int,
    max_jets: int | None = None,
) -> Mixture:
    """Split the background pool in two halves at random and add signal until the fractions are reached.

    A run without signal (``fraction`` 0) has none in M2 either: the two samples then differ by chance alone.

    Args:
        method: one of `METHODS`.
        n_background: jets in the background pool.
        n_signal: jets in the signal pool.
        fraction: of signal in M1.
        other_fraction: of signal in M2; the idealised detector has none there.
        seed: of the draw.
        max_jets: background jets in each sample, at most.

    Raises:
        UsageError: a method or fraction that makes no sense.
        DataError: the pools are too small.
    """
    check_method(method)
    check_fractions(fraction, other_fraction)
    random = np.random.default_rng([seed, 1])
    background, signal = random.permutation(n_background), random.permutation(n_signal)
    half = min(n_background // 2, max_jets or n_background)
    if half < 1:
        raise DataError(f"{n_background} background jets cannot be split in two samples", do="give more --background")
    if method == "supervised":
        if not n_signal:
            raise DataError("one class after the mixing: no signal jet", do="give files in --signal")
        signal = signal[: 2 * max_jets] if max_jets else signal
        rows = background[: 2 * half]
        return Mixture(rows, signal, np.repeat([0, 1], [len(rows), len(signal)]), len(signal), 0)
    second = 0.0 if method == "iad" or fraction == 0 else other_fraction
    counts = [round(value / (1 - value) * half) for value in (fraction, second)]
    if sum(counts) > n_signal:
        what = f"{sum(counts)} signal jets needed for a fraction of {fraction:g} beside {half} background jets"
        raise DataError(f"{what}, {n_signal} there", do="give more --signal, a smaller --fraction, or --max-jets")
    label = np.concatenate([np.repeat([1, 0], half), np.repeat([1, 0], counts)])
    return Mixture(background[: 2 * half], signal[: sum(counts)], label, counts[0], half)
