"""jettag weak decorrelate: what it costs to take a mass out of a tagger, method by method."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jettag.config.files import write_atomically
from jettag.errors import DataError, UsageError, nearest
from jettag.evaluation.plots import render
from jettag.evaluation.weak_figures import draw_decorrelation
from jettag.evaluation.weak_report import NO_SIGNAL, decorrelation_markdown
from jettag.runs.common import NOBODY, Told
from jettag.runs.weak_data import Pool, Pools, WeakSources, read_pools
from jettag.weak.classifiers import make_trees
from jettag.weak.decorrelation import (
    Decorrelation,
    binned_cumulative,
    flow_cumulative,
    largest_deviation,
    planing_weights,
)
from jettag.weak.disco import STRENGTH, make_disco
from jettag.weak.flow import FlowSettings
from jettag.weak.folds import Classifier, fit_folds
from jettag.weak.measures import band
from jettag.weak.sculpting import Sculpting, sculpting
from jettag.weak.study import judge
from jettag.weak.transport import transported_cumulative

__all__ = ["DECORRELATIONS", "DecorrelationStudy", "decorrelation_study"]

SIGNAL_EFFICIENCY = 0.5
DECORRELATIONS: dict[str, str] = {
    "none": "the tagger as it is",
    "planing": "trained with weights that flatten the mass in both classes",
    "binned": "conditional cumulative in bins of the mass",
    "flow": "conditional cumulative by a monotone flow (arXiv:2211.02486)",
    "ot": "optimal transport of scores at almost fixed mass (after arXiv:2307.05187)",
    "disco": "a network trained against distance correlation with the mass (arXiv:2001.05310)",
}
MEASURED = (
    "background_rejection",
    "inverse_jsd",
    "jsd_nats",
    "jsd_floor_nats",
    "chi2_per_ndof",
    "largest_deviation",
    "auc",
)


@dataclass(frozen=True)
class DecorrelationStudy:
    """What to compare.

    Attributes:
        sources: files by role; labels are used, this is supervised.
        features: of the tagger.
        column: the mass to be forgotten.
        methods: of `DECORRELATIONS`.
        runs: repetitions, with seeds 0, 1, ...
        folds: of the ensembles of trees.
        flow: network and training of the flow.
        strengths: of DisCo's penalty, each of which is a row.
    """

    sources: WeakSources
    features: Sequence[str]
    column: str = "mass"
    methods: Sequence[str] = tuple(DECORRELATIONS)
    runs: int = 10
    folds: int = 5
    flow: FlowSettings = field(default_factory=FlowSettings)
    strengths: Sequence[float] = (STRENGTH,)

    @property
    def rows(self) -> list[str]:
        """What is compared, in this order."""
        disco = [f"disco {strength:g}" for strength in self.strengths]
        return [row for method in self.methods for row in (disco if method == "disco" else [method])]


def decorrelation_study(study: DecorrelationStudy, out: Path | None = None, *, told: Told = NOBODY) -> dict[str, Any]:
    """Train trees on half of the background and all signal, fit each map on the other half, judge on the test jets.

    The cut of the pass-fail comparison keeps half of the signal; its threshold is from one half of the test jets, the
    numbers are from the other.

    Returns:
        ``rows`` with medians over runs and their 16-84 % bands, the last without signal, and ``runs``.

    Raises:
        UsageError: a method that does not exist.
        DataError: the files do not have what is needed.
    """
    for method in study.methods:
        if method not in DECORRELATIONS:
            raise UsageError(f"no method {method!r}", do=nearest(method, DECORRELATIONS))
    if study.column in {name.removeprefix("jet_") for name in study.features}:
        what = f"{study.column}, which is to be forgotten, stands in --features"
        raise UsageError(what, do="leave it out, or name another column with --on")
    pools = read_pools(study.sources, [*study.features, study.column], device=torch.device("cpu"), told=told)
    if len(pools.background) < 2 or not len(pools.signal):
        raise DataError("too few training jets", do="give more files")
    records = []
    for seed in range(study.runs):
        told.log({"point": f"run {seed}", "done": seed, "of": study.runs, "seconds_left": None})
        records += _run(study, pools, seed)
    rows = []
    for method in (*study.rows, NO_SIGNAL):
        runs = [record for record in records if record["method"] == method]
        row: dict[str, Any] = {"method": method, "n_runs": len(runs)}
        for name in MEASURED:
            values = [run[name] for run in runs]
            found = None if any(value is None for value in values) else band(values)
            row |= {f"{name}_median": found.median if found else None}
            row |= {f"{name}_low": found.low if found else None, f"{name}_high": found.high if found else None}
        rows.append(row)
    content = {
        "schema": 1,
        "rows": rows,
        "runs": records,
        "column": study.column,
        "signal_efficiency": SIGNAL_EFFICIENCY,
        "varied": "halves of the background and of the test jets, classifiers, flows",
        "notes": _notes(study, rows),
    }
    if out is not None:
        write_atomically(out / "decorrelation.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
        write_atomically(out / "table.md", decorrelation_markdown(content))
        figure = draw_decorrelation(content)
        for kind in ("png", "pdf"):
            write_atomically(out / f"rejection_divergence.{kind}", render(figure, kind))
    return content


def _notes(study: DecorrelationStudy, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = [f"{study.runs} runs: a band wants at least 10"] if study.runs < 10 else []
    bare = [str(row["method"]) for row in rows if row["inverse_jsd_median"] is None and row["method"] != NO_SIGNAL]
    if bare:
        notes.append(f"{', '.join(bare)}: too little background passes to tell its spectrum, give more files in --test")
    return notes


def _parts(pool: Pool) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Features, and the mass, which was read as the last of them."""
    return pool.features[:, :-1], pool.features[:, -1].astype(np.float64)


def _run(study: DecorrelationStudy, pools: Pools, seed: int) -> list[dict[str, Any]]:
    random = np.random.default_rng([seed, 11])
    background, mass = _parts(pools.background)
    signal, signal_mass = _parts(pools.signal)
    tests = [_parts(pools.test_background), _parts(pools.test_signal)]
    first = random.permutation(len(background)) < len(background) // 2
    train = np.concatenate([background[first], signal])
    label = np.repeat([0, 1], [int(first.sum()), len(signal)])
    others = np.concatenate([background[~first], tests[0][0], tests[1][0]])
    ends = np.cumsum([int((~first).sum()), len(tests[0][0])])
    half = [random.random(len(values)) < 0.5 for values, _ in tests]
    masses = [mass[~first], *(at for _, at in tests)]
    scored: dict[str, list[npt.NDArray]] = {}
    records = []
    for method in study.rows:
        training = method if method == "planing" or method.startswith("disco") else "none"
        if training not in scored:
            own_mass = np.concatenate([mass[first], signal_mass])
            make: Callable[[int], Classifier] = make_trees
            inputs, asked, weight = train, others, None
            if training == "planing":
                weight = planing_weights(own_mass, label)
            elif training.startswith("disco"):  # it takes the mass as the last feature, and does not look at it
                make = make_disco(float(training.removeprefix("disco")))
                inputs = np.column_stack([train, own_mass])
                asked = np.column_stack([others, np.concatenate(masses)])
            scores = fit_folds(make, inputs, label, asked, folds=study.folds, seed=seed, weight=weight).test
            scored[training] = np.split(scores, ends)
        fitted, *judged = scored[training]
        change: Decorrelation | None = None
        if method == "binned":
            change = binned_cumulative(fitted, mass[~first])
        elif method == "flow":
            change = flow_cumulative(fitted, mass[~first], settings=study.flow, seed=seed)
        elif method == "ot":
            change = transported_cumulative(fitted, mass[~first], seed=seed)
        if change is not None:
            judged = [change(score, at) for score, (_, at) in zip(judged, tests, strict=True)]
        records.append({"method": method, "seed": seed, **_judge(judged, tests[0][1], half, seed)})
    nothing = _without_signal(study, background[first], *tests[0], half[0], seed)
    return [*records, {"method": NO_SIGNAL, "seed": seed, **nothing}]


def _without_signal(
    study: DecorrelationStudy,
    background: npt.NDArray,
    test: npt.NDArray,
    mass: npt.NDArray,
    half: npt.NDArray[np.bool_],
    seed: int,
) -> Mapping[str, Any]:
    """The numbers where one part of the background plays the signal, in training and among the jets that judge."""
    random = np.random.default_rng([seed, 21])
    label = random.permutation(len(background)) % 2
    score = fit_folds(make_trees, background, label, test, folds=study.folds, seed=seed).test
    plays = random.permutation(len(test)) % 2 == 1
    return _judge([score[~plays], score[plays]], mass[~plays], [half[~plays], half[plays]], seed)


def _judge(
    judged: Sequence[npt.NDArray], mass: npt.NDArray, half: Sequence[npt.NDArray[np.bool_]], seed: int
) -> Mapping[str, Any]:
    """Numbers of one tagger on the second half of the test jets."""
    background, signal = judged
    threshold = np.quantile(signal[half[1]], 1 - SIGNAL_EFFICIENCY)
    passed = background[~half[0]] >= threshold
    shape: Sculpting | None = None
    with suppress(DataError):  # too few test jets pass for a spectrum: the rest is still worth telling
        shape = sculpting(mass[~half[0]], passed, seed=seed)
    return {
        "background_rejection": float(1 / passed.mean()) if passed.any() else None,
        "jsd_nats": shape.jsd_nats if shape else None,
        "jsd_floor_nats": shape.jsd_floor_nats if shape else None,
        "inverse_jsd": 1 / max(shape.jsd_nats, 1e-12) if shape else None,
        "chi2_per_ndof": shape.chi2_per_ndof if shape else None,
        "largest_deviation": largest_deviation(mass[~half[0]], passed),
        "auc": judge(signal[~half[1]], background[~half[0]])["auc"],
    }
