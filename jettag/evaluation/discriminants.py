"""Discriminants of flavour tagging, with the fractions of their backgrounds, and how the fractions are chosen.

    D_s = ln (p_s + eps) / (sum_k f_k p_k + eps),   sum_k f_k = 1,   eps = 1e-10

with p_k the sum of the classes of a group. With s = b and k = c, light this is ATLAS's D_b, where f_light = 1 - f_c.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jettag.config.schemes import add_up
from jettag.errors import DataError, UsageError
from jettag.evaluation.metrics import working_point

__all__ = ["WORKING_POINTS", "FractionScan", "discriminant", "equal_fractions", "scan_fractions"]

WORKING_POINTS = (0.60, 0.65, 0.70, 0.77, 0.85, 0.90)
EPSILON = 1e-10
TOLERANCE = 1e-6  # by which fractions may miss one
FINE = np.concatenate([np.geomspace(1e-3, 0.1, 50), np.linspace(0.1, 1, 50)[1:]])  # of one free fraction
COARSE = np.array([0.0, 0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1.0])
MOST_POINTS = 20_000  # of a grid in several fractions

FloatArray = npt.NDArray[np.float64]


def equal_fractions(class_names: Sequence[str], signal: Sequence[str]) -> dict[str, float]:
    """1 / (number of backgrounds) for every class that is not signal."""
    others = [name for name in class_names if name not in signal]
    return {name: 1 / len(others) for name in others}


def discriminant(
    probabilities: FloatArray,
    class_names: Sequence[str],
    signal: Sequence[str],
    fractions: Mapping[str, float],
    groups: Mapping[str, Sequence[str]] | None = None,
) -> FloatArray:
    """The logarithm of signal over background, for any partition of the classes.

    Args:
        probabilities: (J, C).
        class_names: C names.
        signal: classes that are signal together.
        fractions: of each background, not negative, with the sum 1; a fraction of 0 leaves a background out.
        groups: background to its classes, where it is not a class itself.

    Returns:
        (J,).

    Raises:
        UsageError: fractions off the simplex, an unknown class, or a class in two groups.
    """
    if not fractions or min(fractions.values()) < 0 or abs(sum(fractions.values()) - 1) > TOLERANCE:
        shown = ", ".join(f"{name} {value:g}" for name, value in fractions.items()) or "none"
        do = "give fractions of at least 0 with the sum 1"
        raise UsageError(f"expected fractions on the simplex, found {shown}", do=do)
    members = {name: tuple((groups or {}).get(name, (name,))) for name in fractions}
    sums = add_up(probabilities, class_names, {"signal of the discriminant": tuple(signal), **members})
    background = sums[:, 1:] @ np.array(list(fractions.values()))
    result: FloatArray = np.log((sums[:, 0] + EPSILON) / (background + EPSILON))
    return result


@dataclass(frozen=True)
class FractionScan:
    """Background efficiencies at a signal efficiency, for fractions on a grid.

    Attributes:
        signal: classes of the signal.
        backgrounds: K names.
        signal_efficiency: that is kept.
        fractions: (G, K).
        efficiencies: (G, K) share of each background that passes.
        best: row of the optimum: least sum of squares of the efficiencies, each over its largest on the grid.
    """

    signal: tuple[str, ...]
    backgrounds: tuple[str, ...]
    signal_efficiency: float
    fractions: FloatArray
    efficiencies: FloatArray
    best: int

    @property
    def chosen(self) -> dict[str, float]:
        """Fractions at the optimum."""
        return dict(zip(self.backgrounds, self.fractions[self.best].tolist(), strict=True))


def simplex_grid(backgrounds: int) -> FloatArray:
    """(G, K) fractions; the last background takes what the others leave."""
    if backgrounds == 1:
        return np.ones((1, 1))
    if backgrounds == 2:
        return np.stack([FINE, 1 - FINE], axis=1)
    kept = max(math.floor(MOST_POINTS ** (1 / (backgrounds - 1))), 2)
    steps = COARSE[np.unique(np.linspace(0, len(COARSE) - 1, min(kept, len(COARSE))).astype(int))]
    free = np.array([point for point in itertools.product(steps, repeat=backgrounds - 1) if sum(point) <= 1 + 1e-12])
    return np.concatenate([free, np.maximum(1 - free.sum(axis=1, keepdims=True), 0.0)], axis=1)


def scan_fractions(
    probabilities: FloatArray,
    label: npt.NDArray[np.int64],
    class_names: Sequence[str],
    signal: Sequence[str],
    signal_efficiency: float = 0.7,
) -> FractionScan:
    """Try fractions on a grid; to be done on validation jets, never on those that judge.

    Args:
        probabilities: (J, C).
        label: (J,) index of each jet's class.
        class_names: C names; every one that is not signal and has jets is a background.
        signal: classes of the signal.
        signal_efficiency: at which backgrounds are counted.

    Raises:
        DataError: no jet of the signal, or of any background.
    """
    place = {name: column for column, name in enumerate(class_names)}
    is_signal = np.isin(label, [place[name] for name in signal])
    names = tuple(name for name in class_names if name not in signal and np.any(label == place[name]))
    if not is_signal.any() or not names:
        raise DataError(f"no jet of {'+'.join(signal) if names else 'any background'} to choose fractions with")
    grid = simplex_grid(len(names))
    found = np.empty((len(grid), len(names)))
    for row, fractions in enumerate(grid):
        score = discriminant(
            probabilities, class_names, signal, dict(zip(names, fractions / fractions.sum(), strict=True))
        )
        threshold = working_point(score[is_signal], signal_efficiency).threshold
        found[row] = [np.mean(score[label == place[name]] >= threshold) for name in names]
    largest = found.max(axis=0)
    scaled = found / np.where(largest > 0, largest, 1)
    best = int(np.argmin((scaled**2).sum(axis=1)))
    return FractionScan(tuple(signal), names, signal_efficiency, grid, found, best)
