"""How rows stand side by side and how numbers are written: the same in Markdown, LaTeX and on the terminal."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jettag.evaluation.metrics import CONFIDENCE, LIMIT_CONFIDENCE
from jettag.evaluation.rows import Aggregate, Row, aggregate

__all__ = [
    "CLASS_HEADS",
    "RULE",
    "Block",
    "Line",
    "blocks",
    "class_cells",
    "grouped",
    "rejection_parts",
    "repeated",
    "short_count",
    "spread",
]

CLASS_HEADS = ("classes", "jets", "accuracy", "AUC, pairs", "worst class")

RULE = (
    "Background rejection is 1 / background efficiency. Score: p_S / (p_S + sum of p_B). Threshold: the (1 - signal "
    "efficiency) quantile of the signal scores, lower of two neighbours; a jet passes at score >= threshold. "
    f"Intervals: {CONFIDENCE:.0%} Clopper-Pearson on the background efficiency, inverted; they hold the counting of "
    "background jets only, not the spread between trainings. '>' means that no background jet passes: a lower limit "
    f"at {LIMIT_CONFIDENCE:.0%} CL. Accuracy: the score cut at 0.5, on these jets."
)


@dataclass(frozen=True)
class Line:
    """One run of a block: its rows at the block's efficiencies, None where the run was not asked for one."""

    run: str
    cells: tuple[Row | None, ...]

    @property
    def first(self) -> Row:
        """Any row of the line: AUC, accuracy and counts are the same in all of them."""
        return next(row for row in self.cells if row is not None)


@dataclass(frozen=True)
class Block:
    """Runs side by side on one signal, background and set of jets."""

    signal: str
    background: str
    n_signal: int
    n_background: int
    efficiencies: tuple[float, ...]
    lines: tuple[Line, ...]

    @property
    def title(self) -> str:
        """Pair and numbers of jets."""
        jets = f"{grouped(self.n_signal)} signal and {grouped(self.n_background)} background jets"
        return f"{self.signal} against {self.background}: {jets}"


def blocks(rows: Sequence[Row]) -> list[Block]:
    """Rows sorted into blocks; runs that saw different jets stand in different blocks."""
    found: dict[tuple[str, str, int, int], dict[str, dict[float, Row]]] = {}
    for row in rows:
        key = (row.signal, row.background, row.n_signal, row.n_background)
        found.setdefault(key, {}).setdefault(row.run, {})[row.signal_efficiency] = row
    result = []
    for key, runs in found.items():
        efficiencies = tuple(sorted({value for cells in runs.values() for value in cells}))
        lines = tuple(Line(run, tuple(cells.get(value) for value in efficiencies)) for run, cells in runs.items())
        result.append(Block(*key, efficiencies, lines))
    return result


def repeated(rows: Sequence[Row], groups: Mapping[str, str] | None = None) -> list[Aggregate]:
    """The aggregates that hold more than one seed: the ones worth a line in a table."""
    return [group for group in aggregate(rows, groups) if group.n_seeds > 1]


def rejection_parts(row: Row) -> tuple[str, str, str]:
    """Value, distance to the upper edge, distance to the lower edge, rounded to two digits of the smaller distance.

    Where nothing passes the value is the lower limit and the others are empty.
    """
    value, low, high = row.background_rejection, row.background_rejection_low, row.background_rejection_high
    if value is None or high is None:
        return _significant(low, 2), "", ""
    distances = [distance for distance in (high - value, value - low) if distance > 0]
    digits = min(3, 1 - math.floor(math.log10(min(distances)))) if distances else 0

    def text(number: float) -> str:
        return f"{round(number, digits):.{max(0, digits)}f}"

    return text(value), text(high - value), text(value - low)


def class_cells(found: Mapping[str, Any]) -> tuple[str, ...]:
    """What stands under `CLASS_HEADS`, of `jettag.evaluation.multiclass.judge_classes`.

    The error of the accuracy is the larger side of its interval.
    """
    known = {name: value for name, value in found["recall"].items() if value is not None}
    worst = min(known, key=lambda name: known[name])
    error = max(found["accuracy_high"] - found["accuracy"], found["accuracy"] - found["accuracy_low"])
    area = "n/a" if found["auc_ovo"] is None else f"{found['auc_ovo']:.4f}"
    return (
        str(len(found["classes"])),
        grouped(found["n_jets"]),
        f"{found['accuracy']:.4f}\u00a0±\u00a0{error:.4f}",
        area,
        f"{worst} {known[worst]:.1%}",
    )


def spread(mean: float | None, deviation: float | None = None, *, decimals: int) -> str:
    """``mean ± standard deviation``, as far as they exist."""
    if mean is None:
        return "n/a"
    return f"{mean:.{decimals}f}" + ("" if deviation is None else f" ± {deviation:.{decimals}f}")


def short_count(value: int | None) -> str:
    """A number to three digits: ``2.14M``, ``300k``; empty where unknown."""
    if value is None:
        return ""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return str(value)


def grouped(value: int) -> str:
    """A number with thousands apart."""
    return f"{value:,}".replace(",", " ")


def _significant(value: float, digits: int) -> str:
    """Rounded down to ``digits`` digits: a rounded-up lower limit would claim too much."""
    step = 10.0 ** (math.floor(math.log10(value)) + 1 - digits)
    decimals = max(0, -round(math.log10(step)))
    return f"{math.floor(value / step * (1 + 1e-12)) * step:.{decimals}f}"
