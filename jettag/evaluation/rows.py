"""Rows of the rejection table, their aggregate over seeds, and the object of `eval --json`.

The contract decides the keys of a row; `Row` has exactly these, in this order. Nothing here is NaN or infinite: what
does not exist is None.
"""

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jettag.evaluation.metrics import (
    CONFIDENCE,
    LIMIT_CONFIDENCE,
    auc,
    background_rejection,
    binary_accuracy,
    working_point,
)
from jettag.evaluation.scores import Scores, choose_pairs

__all__ = ["EFFICIENCIES", "SCHEMA", "Aggregate", "Row", "aggregate", "family", "make_rows", "remarks", "to_json"]

SCHEMA = 1
EFFICIENCIES = (0.3, 0.5)
FEW_PASS = 10  # below this the 68 % interval is wider than about +-35 %
MOST_SENTENCES = 4  # of one kind; more are put together


@dataclass(frozen=True)
class Row:
    """One run, signal, background and signal efficiency; the keys of `eval --json`.

    Attributes:
        run: name of the run.
        signal: class name.
        background: class names joined by ``+``.
        n_signal: signal jets.
        n_background: background jets.
        auc: of p_S / (p_S + sum_B p_B).
        accuracy: of the same score at 0.5, on these signal and background jets.
        signal_efficiency: asked for.
        background_rejection: None where no background jet passes.
        background_rejection_low: lower edge of the 68 % interval; the 84 % lower limit where nothing passes.
        background_rejection_high: upper edge; None where nothing passes.
        n_background_pass: background jets at or above the threshold.
        threshold: on the score.
        seed: of the training, or None.
        parameters: trained parameters, or None.
        n_train: labelled training jets, or None.
    """

    run: str
    signal: str
    background: str
    n_signal: int
    n_background: int
    auc: float
    accuracy: float
    signal_efficiency: float
    background_rejection: float | None
    background_rejection_low: float
    background_rejection_high: float | None
    n_background_pass: int
    threshold: float
    seed: int | None
    parameters: int | None
    n_train: int | None


@dataclass(frozen=True)
class Aggregate:
    """Rows of the same run but for the seed, put together.

    ``run`` is the family's name; ``n_seeds`` the rows put together, of which in ``n_limits`` no background jet
    passed. The standard deviation is that of the sample (n - 1), None for one seed. Where a seed has only a limit,
    mean and standard deviation of the rejection are None, and the median counts it as above every number: None only
    where it would have to be one of the limits.
    """

    run: str
    signal: str
    background: str
    signal_efficiency: float
    n_train: int | None
    parameters: int | None
    n_seeds: int
    n_limits: int
    background_rejection_mean: float | None
    background_rejection_std: float | None
    background_rejection_median: float | None
    auc_mean: float
    auc_std: float | None
    auc_median: float
    accuracy_mean: float
    accuracy_std: float | None
    accuracy_median: float


def make_rows(
    scores: Scores,
    *,
    signal: Sequence[str] | None = None,
    background: Sequence[str] | None = None,
    efficiencies: Sequence[float] = EFFICIENCIES,
) -> list[Row]:
    """Rows of one run, one for each pair (see `choose_pairs`) and signal efficiency.

    Raises:
        UsageError: a class that does not exist, or an efficiency that is not in (0, 1].
        DataError: a class without jets.
    """
    rows = []
    for pair in choose_pairs(scores, signal, background):
        signal_scores, background_scores = scores.split(pair)
        area = auc(signal_scores, background_scores)
        share = binary_accuracy(signal_scores, background_scores)
        for efficiency in dict.fromkeys(float(value) for value in efficiencies):
            found = background_rejection(signal_scores, background_scores, efficiency)
            rows.append(
                Row(
                    run=scores.run,
                    signal=pair.signal,
                    background=pair.background_name,
                    n_signal=len(signal_scores),
                    n_background=len(background_scores),
                    auc=area,
                    accuracy=share,
                    signal_efficiency=efficiency,
                    background_rejection=found.value,
                    background_rejection_low=found.low,
                    background_rejection_high=found.high,
                    n_background_pass=found.n_pass,
                    threshold=found.threshold,
                    seed=None if scores.seed is None else int(scores.seed),
                    parameters=None if scores.parameters is None else int(scores.parameters),
                    n_train=None if scores.n_train is None else int(scores.n_train),
                )
            )
    return rows


def family(run: str) -> str:
    """The run's name without a seed at its end: ``top-seed3``, ``top_s3``, ``top.seed-3`` and ``top/seed3`` are one."""
    return re.sub(r"(?<=.)[-_./](seed|s)[-_=]?\d+$", "", run, flags=re.IGNORECASE)


def aggregate(rows: Sequence[Row], groups: Mapping[str, str] | None = None) -> list[Aggregate]:
    """Mean, standard deviation and median over the seeds of each run family, in the order of first appearance.

    Rows belong together where family, signal, background, signal efficiency, training jets and parameters agree:
    runs of one name on different amounts of data are never averaged.

    Args:
        rows: of any number of runs.
        groups: run name to family name; `family` for the runs that are not in it.
    """
    together: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        name = (groups or {}).get(row.run) or family(row.run)
        key = (name, row.signal, row.background, row.signal_efficiency, row.n_train, row.parameters)
        together.setdefault(key, []).append(row)
    result = []
    for key, members in together.items():
        known = [row.background_rejection for row in members if row.background_rejection is not None]
        complete = len(known) == len(members)
        with_limits = known + [math.inf] * (len(members) - len(known))
        middle = statistics.median(with_limits)
        result.append(
            Aggregate(
                run=key[0],
                signal=key[1],
                background=key[2],
                signal_efficiency=key[3],
                n_train=key[4],
                parameters=key[5],
                n_seeds=len(members),
                n_limits=len(members) - len(known),
                background_rejection_mean=statistics.fmean(known) if complete else None,
                background_rejection_std=_spread(known) if complete else None,
                background_rejection_median=middle if math.isfinite(middle) else None,
                **_summary("auc", [row.auc for row in members]),
                **_summary("accuracy", [row.accuracy for row in members]),
            )
        )
    return result


def _floor(limit: float) -> str:
    """A limit to three digits or whole, never rounded up."""
    return str(math.floor(limit)) if limit >= 100 else f"{math.floor(limit * 100) / 100:g}"


def _summary(name: str, values: list[float]) -> dict[str, Any]:
    steps: dict[str, Callable[[list[float]], float | None]] = {
        "mean": statistics.fmean,
        "std": _spread,
        "median": statistics.median,
    }
    return {f"{name}_{key}": step(values) for key, step in steps.items()}


def _spread(values: list[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def to_json(rows: Sequence[Row], groups: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The object of `eval --json`: ``schema``, ``rows``, ``aggregate``; plain Python values only."""
    return {
        "schema": SCHEMA,
        "rows": [asdict(row) for row in rows],
        "aggregate": [asdict(group) for group in aggregate(rows, groups)],
    }


def remarks(runs: Sequence[Scores], rows: Sequence[Row]) -> list[str]:
    """What a reader of the table should know, one sentence each: few or no background jets, ties, absent classes."""
    found = []
    for scores in runs:
        absent = [name for name, jets in scores.counts.items() if not jets]
        if absent:
            found.append(f"{scores.run}: no jet of {', '.join(absent)} in the data, so no row for it.")
        if scores.rounded:
            found.append(f"{scores.run}: scores in bf16 mixed precision.")
    few: list[str] = []
    by_name = {scores.run: scores for scores in runs}
    for row in rows:
        place = f"{row.run}, {row.signal} against {row.background} at {row.signal_efficiency * 100:.4g} %"
        if row.n_background_pass == 0:
            limit = f"> {_floor(row.background_rejection_low)} at {LIMIT_CONFIDENCE * 100:.0f} % CL"
            edge = f"the edge of the {CONFIDENCE * 100:.0f} % interval"
            found.append(f"{place}: none of {row.n_background} background jets passes; {limit}, {edge}.")
        elif row.n_background_pass < FEW_PASS:
            few.append(f"{place}: only {row.n_background_pass} of {row.n_background} background jets pass.")
        if row.run in by_name:
            scores = by_name[row.run]
            pair = choose_pairs(scores, [row.signal], [row.background])[0]
            point = working_point(scores.split(pair)[0], row.signal_efficiency)
            # Without ties the quantile lets at most one jet more pass than the next whole number.
            if point.achieved * row.n_signal > math.ceil(row.signal_efficiency * row.n_signal) + 1.5:
                found.append(f"{place}: scores are tied; {point.achieved * 100:.3g} % of the signal passes.")
    if len(few) > MOST_SENTENCES:
        few = [f"In {len(few)} of {len(rows)} rows fewer than {FEW_PASS} background jets pass: wide intervals."]
    return found + few
