"""jettag weak cathode, lacathode, ..., compare: one signal region, methods side by side."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jettag.errors import DataError, UsageError, nearest
from jettag.evaluation.weak_report import write_study
from jettag.runs.common import NOBODY, Told
from jettag.runs.weak_data import Pool, read_pools, several_signals
from jettag.runs.weak_hunt import injected, read_events_of
from jettag.runs.weak_plan import contents, settle_plan
from jettag.runs.weak_region import (
    CUT,
    RegionPoint,
    ResonanceStudy,
    Shared,
    combined_of,
    known_point,
    put_in,
    train_region,
)
from jettag.runs.weak_workers import train_points
from jettag.training.run_directory import occupy
from jettag.weak.checks import check_features
from jettag.weak.features import with_noise
from jettag.weak.folds import BY_LOSS
from jettag.weak.measures import enough_background
from jettag.weak.resonance import CLASSIFIERS, COMBINABLE, RESONANCE_METHODS
from jettag.weak.samples import Sample
from jettag.weak.study import study_json
from jettag.weak.windows import check_regions

__all__ = ["resonance_study"]

SHIFTED = ("m_j1", "delta_m_j")  # features that the stress test makes follow the mass
LEARNERS = {"anode": "flow", "ranode": "flow", "isolation": "forest", "distance": "covariance"}  # of the others: trees


def resonance_study(
    study: ResonanceStudy, out: Path | None = None, *, workers: int | None = None, told: Told = NOBODY
) -> dict[str, Any]:
    """Train and judge every method that ``out`` does not hold yet; write tables there.

    Half of the background is the data, together with the signal that is put in; the other half is the true background
    of the two bounds.

    Args:
        study: what to compare.
        out: folder; None keeps nothing.
        workers: processes, which do not change any point; None: as `jettag.runs.weak_workers.train_points`.
        told: hears of notes and progress.

    Returns:
        The object of `weak --json`.

    Raises:
        UsageError: a method, fraction or feature that makes no sense.
        DataError: empty regions, features that leak the mass, too few events.
    """
    _check(study)
    read = read_pools(study.sources, [*study.features, study.mass], device=torch.device("cpu"), told=told)
    pools = {
        name: _sample(study, pool, place)
        for place, (name, pool) in enumerate(
            {
                "background": read.background,
                "signal": read.signal,
                "test_background": read.test_background,
                "test_signal": read.test_signal,
            }.items()
        )
    }
    simulation = None
    if study.simulation:
        made = read_events_of(study.simulation, study.sources.card, study.mass, study.features)
        simulation = _arranged(study, made.features, made.mass, 4)
        check_regions(study.window, simulation.mass, where=f"--simulation {study.simulation[0]}")
    everything = pools["background"]
    check_regions(study.window, everything.mass)
    check_features(everything.features, tuple(study.features), everything.mass)
    _check_judges(study, pools)
    fractions = sorted({0.0, *study.fractions})
    injected(fractions[-1], len(everything) // 2, len(pools["signal"]))  # refused before hours, not after
    points = [
        RegionPoint(method, row, None if method == "supervised" else fraction, seed)
        for seed in range(study.runs)
        for fraction in fractions
        for method in sorted(study.methods, key=lambda name: name == "combined")  # of scores that are there
        for row in ((LEARNERS[method],) if method in LEARNERS else study.classifiers)
        if method != "supervised" or fraction == fractions[-1]
    ]
    with occupy(out) if out else nullcontext():
        if out:
            settle_plan(out, _plan(study))
        kinds = read.signal_names[study.window.inside(read.test_signal.features[:, -1].astype(np.float64))]
        known = {point: known_point(study, out, point) for point in points}
        found = [result for result in known.values() if result is not None]
        regions: dict[tuple[float, int], list[RegionPoint]] = {}  # methods share the flows of one
        for point in points:
            if known[point] is None:
                regions.setdefault((put_in(study, point), point.seed), []).append(point)
        found += train_points(
            train_region,
            Shared(study, pools, simulation, kinds, out),
            list(regions.values()),
            of=len(points),
            workers=workers,
            device=torch.device("cpu"),
            folder=out,
            told=told,
        )
        order = {method: place for place, method in enumerate(study.methods)}
        found.sort(key=lambda item: (order[item["method"]], item["row"], item["fraction"] or -1.0, item["seed"]))
        content = study_json(found, [*_notes(study), *several_signals(kinds)])
        content["selection"] = study.settings.selection
        if out:
            write_study(out, content)
    return content


def _check(study: ResonanceStudy) -> None:
    for method in study.methods:
        if method not in RESONANCE_METHODS:
            raise UsageError(f"no method {method!r}", do=nearest(method, RESONANCE_METHODS))
    for classifier in study.classifiers:
        if classifier not in CLASSIFIERS:
            raise UsageError(f"no classifier {classifier!r}", do=nearest(classifier, CLASSIFIERS))
    for fraction in study.fractions:
        if not 0 <= fraction < 1:
            raise UsageError(f"expected a signal fraction from 0 to below 1, found {fraction:g}", where="--fraction")
    if study.mass in study.features:
        raise UsageError(f"the mass {study.mass} stands in --features", do="leave it out")
    for method, does in (("salad", "reweights"), ("feta", "moves")):
        if method in study.methods and not study.simulation:
            do = f"give one with --simulation, or leave {method} out"
            raise UsageError(f"{method} {does} a simulation", do=do)
    if "combined" in study.methods and len(combined_of(study)) < 2:
        what = "combined is the mean of two methods or more"
        raise UsageError(what, where="--methods", do=f"name some of {', '.join(COMBINABLE)} as well")
    if study.shift and not set(SHIFTED) <= set(study.features):
        raise UsageError(f"--shift moves {' and '.join(SHIFTED)}", do="have them in --features")


def _check_judges(study: ResonanceStudy, pools: Mapping[str, Sample]) -> None:
    """See that there is something to judge by in the region before anything is trained."""
    enough_background(int(np.count_nonzero(study.window.inside(pools["test_background"].mass))))
    if not study.window.inside(pools["test_signal"].mass).any():
        what = f"no signal event of --test in the signal region {study.window.low:g}:{study.window.high:g}"
        raise DataError(what, do="give more files in --test, or another --window")


def _notes(study: ResonanceStudy) -> list[str]:
    window = study.window
    regions = (
        f"region {window.low:g} to {window.high:g}, side-bands from {window.side_low:g} to {window.side_high:g}; "
        "SIC is that of test events inside the region"
    )
    notes = [
        regions,
        "template AUC: of a classifier that tells the drawn background from the true one of the region, 0.5 at best",
        "FPD, KPD: Fréchet and kernel physics distance of these two, 0 at best",
        f"sculpting: test background of all these masses, {CUT:.0%} of it kept, the cut from its other half",
    ]
    if "ranode" in study.methods:
        notes.append("ranode: unless events held out tell signal from background, every event scores the same")
    if study.settings.selection == "loss":
        notes.append(BY_LOSS)
    if study.runs < 10:
        notes.append(f"{study.runs} runs: a band wants at least 10")
    if "combined" in study.methods:
        notes.append(f"combined: mean of the scores of {', '.join(combined_of(study))}")
    if study.shift:
        notes.append(f"{study.shift:g} times {study.mass} is added to {' and '.join(SHIFTED)}")
    if study.noise_features:
        notes.append(f"{study.noise_features} features of pure noise are added")
    return notes


def _plan(study: ResonanceStudy) -> dict[str, Any]:
    sources = study.sources
    return {
        "schema": 1,
        "background": contents(sources.background),
        "signal": contents(sources.signal),
        "test": contents(sources.test),
        "simulation": contents(study.simulation) if study.simulation else [],
        "card": sources.card,
        "window": asdict(study.window),
        "mass": study.mass,
        "features": list(study.features),
        "shift": study.shift,
        "noise_features": study.noise_features,
        "flow": asdict(study.settings.flow),
        "folds": study.settings.folds,
        "selection": study.settings.selection,
        "oversampling": study.settings.oversampling,
    }


def _sample(study: ResonanceStudy, pool: Pool, place: int) -> Sample:
    """Events of the window; the mass was read as the last feature."""
    mass = pool.features[:, -1].astype(np.float64)
    return _arranged(study, pool.features[:, :-1], mass, place)


def _arranged(study: ResonanceStudy, features: npt.NDArray, mass: npt.NDArray, place: int) -> Sample:
    values = features.copy()
    for name in SHIFTED if study.shift else ():
        values[:, list(study.features).index(name)] += study.shift * mass
    if study.noise_features:
        values = with_noise(values, study.noise_features, [place, 9])
    window = study.window
    kept = (mass >= window.side_low) & (mass < window.side_high)
    return Sample(values[kept].astype(np.float32), mass[kept])
