"""What pre-training saves: the labels that training from scratch needs for the rejection of a fine-tuned network.

For each mode and number of labels N, with medians over seeds,

    label saving = N_scratch / N,   where N_scratch is where the scratch curve first reaches the mode's rejection.

The scratch curve is a line in log N and log rejection between the numbers of labels that were trained. Its first
crossing is taken: the smallest claim where the curve wiggles. Where the curve ends below, the factor is a lower bound;
where it begins above, an upper bound.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from jettag.evaluation.rows import SCHEMA, Row, aggregate

__all__ = ["SCRATCH", "LabelSaving", "ScanPoint", "label_savings", "labels_needed", "scan_json"]

SCRATCH = "scratch"
REPLICATES = 1000  # of the bootstrap over seeds: its 16 % and 84 % edges to about 1 %
EDGES = (0.16, 0.84)
Curve = Sequence[tuple[int, float]]  # (labels, rejection), ascending in labels; infinite where only a limit is known


@dataclass(frozen=True)
class ScanPoint:
    """A trained point of the scan: its row, at one signal efficiency, and how it was trained.

    Attributes:
        mode: ``scratch`` or a mode of fine-tuning.
        row: whose ``n_train`` counts all labelled jets, those for validation included.
        n_validation: how many of them chose the checkpoint, or those of ``--val`` on top.
        steps: of the optimizer.
        seconds: of training.
    """

    mode: str
    row: Row
    n_validation: int
    steps: int
    seconds: float


@dataclass(frozen=True)
class LabelSaving:
    """A mode at N labels against scratch, on one pair and signal efficiency; medians over seeds.

    ``bound`` is ``>`` or ``<`` where ``n_scratch`` and ``label_saving`` are only limits, else empty; all are None where
    nothing can be said. Intervals are 68 % of a bootstrap over the seeds of both sides, which knows of nothing but
    these seeds; an edge is None where it lies outside the scanned labels, both are with one seed.
    """

    mode: str
    signal: str
    background: str
    signal_efficiency: float
    n_train: int
    n_seeds: int
    rejection_ratio: float | None
    rejection_ratio_low: float | None
    rejection_ratio_high: float | None
    n_scratch: float | None
    label_saving: float | None
    label_saving_low: float | None
    label_saving_high: float | None
    bound: str


def labels_needed(curve: Curve, rejection: float) -> tuple[float, str]:
    """Labels at which the curve first reaches a rejection, and ``>`` or ``<`` where that is only a bound."""
    before: tuple[int, float] | None = None
    for labels, value in curve:
        if value >= rejection:
            if before is None:
                return float(labels), "" if value == rejection else "<"
            if math.isinf(value):
                return float(before[0]), ">"
            share = math.log(rejection / before[1]) / math.log(value / before[1])
            return math.exp(math.log(before[0]) + share * math.log(labels / before[0])), ""
        before = labels, value
    return float(curve[-1][0]), ">"


def label_savings(points: Sequence[ScanPoint]) -> list[LabelSaving]:
    """One for each mode but scratch, number of labels, pair and efficiency, in the order of the points."""
    groups: dict[tuple[str, str, float], dict[str, dict[int, list[Row]]]] = {}
    for point in points:
        row = point.row
        modes = groups.setdefault((row.signal, row.background, row.signal_efficiency), {})
        modes.setdefault(point.mode, {}).setdefault(int(row.n_train or 0), []).append(row)
    found = []
    for key, modes in groups.items():
        scratch = dict(sorted(modes.get(SCRATCH, {}).items()))
        for mode, by_labels in modes.items():
            if mode != SCRATCH and scratch:
                found += [_saving(mode, key, n, rows, scratch) for n, rows in sorted(by_labels.items())]
    return found


def _saving(
    mode: str, key: tuple[str, str, float], n: int, rows: Sequence[Row], scratch: Mapping[int, Sequence[Row]]
) -> LabelSaving:
    mine = [_value(row) for row in rows]
    theirs = {labels: [_value(row) for row in there] for labels, there in scratch.items()}
    target = statistics.median(mine)
    curve = [(labels, statistics.median(values)) for labels, values in theirs.items()]
    needed, bound = _needed(curve, target, statistics.median(row.background_rejection_low for row in rows))
    ratio = target / dict(curve).get(n, math.nan)
    several = len(mine) > 1 and all(len(values) > 1 for values in theirs.values())
    ratios, factors = _bootstrap(mine, theirs, n) if several else ([], [])
    return LabelSaving(
        mode,
        *key,
        n_train=n,
        n_seeds=len(mine),
        rejection_ratio=_finite(ratio),
        rejection_ratio_low=_edge(ratios, 0),
        rejection_ratio_high=_edge(ratios, 1),
        n_scratch=needed,
        label_saving=None if needed is None else needed / n,
        label_saving_low=_edge(factors, 0),
        label_saving_high=_edge(factors, 1),
        bound=bound,
    )


def _value(row: Row) -> float:
    return math.inf if row.background_rejection is None else row.background_rejection


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) and value > 0 else None


def _needed(curve: Curve, target: float, limit: float) -> tuple[float | None, str]:
    """`labels_needed`; a target of which only a limit is known gives a lower bound, or nothing."""
    if math.isfinite(target):
        return labels_needed(curve, target)
    needed, bound = labels_needed(curve, limit)
    return (None, "") if bound == "<" else (needed, ">")


def _bootstrap(mine: Sequence[float], theirs: Mapping[int, Sequence[float]], n: int) -> tuple[list[float], list[float]]:
    """Ratios and label savings of drawn seeds; infinite or zero where a replicate is outside the scanned labels."""
    random = np.random.default_rng(0)

    def medians(values: Sequence[float]) -> list[float]:
        # Not numpy's median: the mean of two infinities must stay infinite without a warning.
        drawn = random.integers(0, len(values), (REPLICATES, len(values)))
        return [statistics.median(values[i] for i in row) for row in drawn.tolist()]

    targets = medians(mine)
    curves = {labels: medians(values) for labels, values in theirs.items()}
    ratios = []
    factors = []
    for i, target in enumerate(targets):
        there = curves[n][i] if n in curves else math.nan
        if not (math.isnan(there) or (math.isinf(there) and math.isinf(target))):
            ratios.append(target / there)
        needed, bound = labels_needed([(labels, values[i]) for labels, values in curves.items()], target)
        factors.append({"": needed / n, ">": math.inf, "<": 0.0}[bound])
    return ratios, factors


def _edge(values: Sequence[float], side: int) -> float | None:
    if not values:
        return None
    return _finite(float(np.quantile(values, EDGES[side], method=("lower", "higher")[side])))


def scan_json(points: Sequence[ScanPoint], failed: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The object of `scan --json`: ``rows``, ``aggregate`` and ``label_saving``, each with its mode; and ``failed``."""
    rows = [point.row for point in points]
    modes: dict[str, str] = {}
    for point in points:
        modes[f"{point.mode}-{point.row.n_train}"] = point.mode
    names = {point.row.run: f"{point.mode}-{point.row.n_train}" for point in points}
    return {
        "schema": SCHEMA,
        "rows": [
            {
                "mode": point.mode,
                **asdict(point.row),
                "n_validation": point.n_validation,
                "steps": point.steps,
                "seconds": point.seconds,
            }
            for point in points
        ],
        "aggregate": [{"mode": modes[group.run], **asdict(group)} for group in aggregate(rows, names)],
        "label_saving": [asdict(saving) for saving in label_savings(points)],
        "failed": [dict(item) for item in failed],
    }
