"""jettag weak hunt: a resonance hunt on unlabelled events, or a study of what it finds of an injected signal."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jettag.config.files import write_atomically
from jettag.data.card import load_card
from jettag.data.inputs import expand_inputs
from jettag.data.jet_columns import read_jet_columns
from jettag.errors import DataError, UsageError
from jettag.evaluation.plots import render
from jettag.evaluation.weak_figures import draw_hunt
from jettag.evaluation.weak_report import hunt_markdown
from jettag.runs.common import NOBODY, Told
from jettag.runs.weak_data import ROLES, WeakSources, read_pools
from jettag.weak.checks import check_features
from jettag.weak.classifiers import make_trees
from jettag.weak.features import columns_of, feature_matrix, with_noise
from jettag.weak.folds import BY_LOSS, Selection
from jettag.weak.hunt import HuntPlan, WindowResult, hunt
from jettag.weak.measures import band
from jettag.weak.samples import Sample
from jettag.weak.spectrum import BumpHunt
from jettag.weak.study import judge

__all__ = ["FEWEST_RUNS", "HUNT_FEATURES", "HuntStudy", "hunt_study", "injected", "read_events_of"]

HUNT_FEATURES = ("m_j1", "delta_m_j", "tau21_j1", "tau21_j2")
FEWEST_RUNS = 10  # that a band wants
MEASURED = ("p_value", "significance", "observed", "expected", "global_p_value", "max_sic", "auc")


@dataclass(frozen=True)
class HuntStudy:
    """What to hunt in.

    Attributes:
        data: files of unlabelled events; or
        background: files of background and
        signal: of signal, of which so much is put in that it is one of ``fractions`` of all events.
        test: of both, which judge the classifiers of each region and do nothing else.
        fractions: of signal; 0 is always among them.
        runs: draws of signal and folds.
        card: data card.
        mass: column of the resonance mass [GeV].
        features: that the classifier sees.
        plan: how to hunt; its seed is the first.
        noise_features: columns of pure noise beside the features.
        selection: what ends the trainings of trees.
    """

    plan: HuntPlan
    data: Sequence[str] = ()
    background: Sequence[str] = ()
    signal: Sequence[str] = ()
    test: Sequence[str] = ()
    fractions: Sequence[float] = ()
    runs: int = 1
    card: str = "dijets"
    mass: str = "m_jj"
    features: Sequence[str] = HUNT_FEATURES
    noise_features: int = 0
    selection: Selection = "argos"


def read_events_of(patterns: Sequence[str], card_name: str, mass: str, features: Sequence[str]) -> Sample:
    """Features and mass of all events of the files, in their order; no label is read.

    Raises:
        DataError: a column is absent, or NaN.
        UsageError: the mass is among the features.
    """
    if mass in {name.removeprefix("jet_") for name in features}:
        raise UsageError(f"the mass {mass} stands in --features", do="leave it out: it is what regions are made of")
    card = load_card(card_name)
    columns = tuple(dict.fromkeys([*columns_of(features), mass]))
    # Without classes every jet is of the one that is named here.
    unlabelled = card.model_copy(update={"labels": None})
    inputs = [replace(file, class_name=None) for file in expand_inputs(patterns)]
    read = read_jet_columns(inputs, unlabelled, columns, ROLES, default=ROLES[0])
    values = feature_matrix(read.values, features)
    check_features(values, tuple(features), where=patterns[0])
    found = read.values[mass].astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
        what = f"{len(bad)} of {len(found)} values of the mass {mass} are NaN or infinite, entry {bad[0]} first"
        raise DataError(what, where=patterns[0], do="repair the file, or give another --mass")
    return Sample(values, found)


def hunt_study(study: HuntStudy, out: Path | None = None, *, told: Told = NOBODY) -> dict[str, Any]:
    """Hunt in the data, or in background with and without signal; write JSON and a table where ``out`` is given.

    Returns:
        The object of `weak hunt --json`: ``rows`` with medians over runs for each window and efficiency, ``bumps`` with
        the global p-values, ``runs`` with every one.

    Raises:
        UsageError: neither data nor background and signal, or a fraction out of [0, 1).
        DataError: as the hunt.
    """
    if bool(study.data) == bool(study.background and study.signal):
        raise UsageError("expected --data, or --background and --signal")
    if study.test and study.data:
        raise UsageError("--test judges what was put in", do="give --background and --signal instead of --data")
    for value in study.fractions:
        if not 0 <= value < 1:
            raise UsageError(f"expected a signal fraction from 0 to below 1, found {value:g}", where="--fraction")
    low, high = study.plan.edges[0], study.plan.edges[-1]

    def read(patterns: Sequence[str]) -> Sample:
        events = read_events_of(patterns, study.card, study.mass, study.features)
        kept = events.select((events.mass >= low) & (events.mass < high))
        if not len(kept):
            what = f"no event with {study.mass} from {low:g} to {high:g}"
            raise DataError(what, where=patterns[0], do="give another --range, in GeV")
        return kept

    fractions: list[float | None] = [None] if study.data else [*sorted({0.0, *study.fractions})]
    background = read(study.data or study.background)
    signal = read(study.signal) if study.signal else None
    if signal is not None:
        injected(max(study.fractions, default=0.0), len(background), len(signal))  # refused before hours, not after
    test, is_test_signal = _judges(study, told) if study.test else (None, np.zeros(0, dtype=bool))
    make = partial(make_trees, selection=study.selection)
    records: list[dict[str, Any]] = []
    total = len(fractions) * study.runs
    for number, (seed, fraction) in enumerate((s, f) for s in range(study.runs) for f in fractions):
        told.log({"point": f"run {seed}", "done": number, "of": total, "seconds_left": None})
        first = study.plan.seed + seed
        events, n_signal = _with_signal(background, signal, fraction or 0.0, first)
        features = with_noise(events.features, study.noise_features, [first, 5])
        names = [*study.features, *(f"noise {place}" for place in range(study.noise_features))]
        judges = with_noise(test.features, study.noise_features, [first, 14]) if test else None
        plan = replace(study.plan, seed=first)
        results, bumps = hunt(make, features, names, events.mass, plan, judges=judges)
        for result in results:
            record = _record(result, bumps, fraction, first, events, n_signal)
            records.append(record | _judged(result, test, is_test_signal))
    content = _content(records, study)
    if out is not None:
        write_atomically(out / "hunt.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
        write_atomically(out / "table.md", hunt_markdown(content))
        figure = draw_hunt(content)
        for kind in ("png", "pdf"):
            write_atomically(out / f"p_values.{kind}", render(figure, kind))
    return content


def _judges(study: HuntStudy, told: Told) -> tuple[Sample, npt.NDArray[np.bool_]]:
    """The events that judge, and which of them are signal."""
    sources = WeakSources(study.background, study.signal, study.test, study.card)
    pools = read_pools(sources, [*study.features, study.mass], device=torch.device("cpu"), told=told)
    values = [pools.test_background.features, pools.test_signal.features]
    features = np.concatenate(values)
    is_signal = np.repeat([False, True], [len(part) for part in values])
    return Sample(features[:, :-1], features[:, -1].astype(np.float64)), is_signal


def _judged(result: WindowResult, test: Sample | None, is_signal: npt.NDArray[np.bool_]) -> dict[str, float | None]:
    """Gain and AUC among the events that judge in the region; None where there are none or too few of them."""
    nothing: dict[str, float | None] = {"max_sic": None, "auc": None}
    if test is None:
        return nothing
    inside = result.window.inside(test.mass)
    try:
        found = judge(result.judged[inside & is_signal], result.judged[inside & ~is_signal])
    except DataError:
        return nothing
    return {name: found[name] for name in nothing}


def injected(fraction: float, n_background: int, n_signal: int) -> int:
    """Signal events that make up a fraction beside so many background events.

    Raises:
        DataError: there are fewer.
    """
    count = round(fraction / (1 - fraction) * n_background)
    if count > n_signal:
        what = f"{count} signal events needed for a fraction of {fraction:g}, {n_signal} there"
        raise DataError(what, do="give more --signal or a smaller --fraction")
    return count


def _with_signal(
    background: Sample, signal: Sample | None, fraction: float, seed: int
) -> tuple[Sample, npt.NDArray[np.bool_]]:
    """Background with a draw of signal put in, and which events are signal (for the S/B that is told, nothing else)."""
    if signal is None or fraction == 0:
        return background, np.zeros(len(background), dtype=bool)
    count = injected(fraction, len(background), len(signal))
    drawn = signal.select(np.random.default_rng([seed, 6]).permutation(len(signal))[:count])
    return background.join(drawn), np.repeat([False, True], [len(background), count])


def _record(
    result: WindowResult,
    bumps: Mapping[float, BumpHunt],
    fraction: float | None,
    seed: int,
    events: Sample,
    is_signal: npt.NDArray[np.bool_],
) -> dict[str, Any]:
    inside = result.window.inside(events.mass)
    n_signal = int(np.count_nonzero(inside & is_signal))
    bump = bumps.get(result.efficiency)
    return {
        "fraction": fraction,
        "seed": seed,
        "window": [result.window.low, result.window.high],
        "side_bands": [result.window.side_low, result.window.side_high],
        "efficiency": result.efficiency,
        "efficiency_achieved": result.achieved,
        "n_events": len(events),
        "n_region": int(np.count_nonzero(inside)),
        "s_over_b": None if fraction is None else n_signal / max(int(np.count_nonzero(inside)) - n_signal, 1),
        **asdict(result.excess),
        "bump": asdict(bump) if bump else None,
        "global_p_value": bump.global_p_value if bump else None,
    }


def _content(records: Sequence[Mapping[str, Any]], study: HuntStudy) -> dict[str, Any]:
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for record in records:
        key = (record["fraction"], tuple(record["window"]), record["efficiency"])
        groups.setdefault(key, []).append(record)
    rows = []
    for (fraction, window, efficiency), runs in groups.items():
        row: dict[str, Any] = {
            "method": "hunt",
            "row": "trees",
            "fraction": fraction,
            "window": list(window),
            "side_bands": runs[0]["side_bands"],
            "efficiency": efficiency,
            "n_runs": len(runs),
            "n_region": runs[0]["n_region"],
            "s_over_b": None if fraction is None else float(np.median([run["s_over_b"] for run in runs])),
            "fit_p_value": float(np.median([run["fit_p_value"] for run in runs])),
        }
        for name in MEASURED:
            values = [run[name] for run in runs]
            found = None if any(value is None or not np.isfinite(value) for value in values) else band(values)
            row |= {f"{name}_median": found.median if found else None}
            row |= {f"{name}_low": found.low if found else None, f"{name}_high": found.high if found else None}
        rows.append(row)
    varied = "folds, initialisation" if study.data else "signal draw, folds, initialisation; the background is one"
    return {
        "schema": 1,
        "rows": sorted(rows, key=lambda row: (row["fraction"] or 0.0, row["window"], -row["efficiency"])),
        "runs": [{key: _plain(value) for key, value in record.items()} for record in records],
        "varied": varied,
        "features": list(study.features),
        "mass": study.mass,
        "selection": study.selection,
        "notes": _notes(study),
    }


def _notes(study: HuntStudy) -> list[str]:
    few = not study.data and study.runs < FEWEST_RUNS
    notes = [f"{study.runs} runs: a band wants at least {FEWEST_RUNS}"] if few else []
    return notes + ([BY_LOSS] if study.selection == "loss" else [])


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
