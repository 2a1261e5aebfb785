"""jettag weak cathode, lacathode, ..., compare: one signal region, methods side by side."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jettag.config.files import write_atomically
from jettag.errors import DataError, UsageError, nearest
from jettag.evaluation.weak_report import write_study
from jettag.runs.common import NOBODY, Told
from jettag.runs.weak_data import Pool, WeakSources, read_pools, several_signals
from jettag.runs.weak_hunt import HUNT_FEATURES, injected, read_events_of
from jettag.runs.weak_plan import contents, settle_plan
from jettag.training.run_directory import occupy
from jettag.weak.checks import check_features
from jettag.weak.closure import classifier_test, frechet_distance, kernel_distance
from jettag.weak.features import with_noise
from jettag.weak.measures import enough_background
from jettag.weak.resonance import (
    CLASSIFIERS,
    COMBINABLE,
    RESONANCE_METHODS,
    Region,
    ResonanceSettings,
    Sample,
    score_events,
)
from jettag.weak.sculpting import Sculpting, keep_share, sculpting
from jettag.weak.study import improvement_over, judge, study_json
from jettag.weak.windows import Window, check_regions

__all__ = ["ResonanceStudy", "resonance_study"]

KERNEL_EVENTS = 1000  # of a batch of the kernel distance: its mean is that of any size, its cost the square
CUT = 0.05  # share of the background that passes where sculpting is measured
SHIFTED = ("m_j1", "delta_m_j")  # features that the stress test makes follow the mass
LEARNERS = {"anode": "flow", "ranode": "flow", "isolation": "forest", "distance": "covariance"}  # of the others: trees
VARIED = "signal draw, background split, flows and classifiers"


@dataclass(frozen=True)
class ResonanceStudy:
    """What to compare.

    Attributes:
        sources: files by role; the mass and features stand on their card.
        methods: of `jettag.weak.resonance.RESONANCE_METHODS`.
        window: signal region and side-bands [GeV].
        fractions: of signal among the data; 0 is always among them.
        runs: repetitions, with seeds 0, 1, ...
        simulation: files of a simulation, of SALAD and FETA.
        mass: column.
        features: that methods see.
        shift: so many times the mass is added to m_j1 and delta_m_j, a stress test.
        noise_features: columns of pure noise.
        classifiers: of `jettag.weak.resonance.CLASSIFIERS`; a row for each.
        settings: of the methods.
    """

    sources: WeakSources
    methods: Sequence[str]
    window: Window
    fractions: Sequence[float]
    runs: int = 10
    simulation: Sequence[str] = ()
    mass: str = "m_jj"
    features: Sequence[str] = HUNT_FEATURES
    shift: float = 0.0
    noise_features: int = 0
    classifiers: Sequence[str] = ("trees",)
    settings: ResonanceSettings = field(default_factory=ResonanceSettings)


def resonance_study(study: ResonanceStudy, out: Path | None = None, *, told: Told = NOBODY) -> dict[str, Any]:
    """Train and judge every method that ``out`` does not hold yet; write tables there.

    Half of the background is the data, together with the signal that is put in; the other half is the true background
    of the two bounds.

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
        (method, row, None if method == "supervised" else fraction, seed)
        for seed in range(study.runs)
        for fraction in fractions
        for method in sorted(study.methods, key=lambda name: name == "combined")  # of scores that are there
        for row in ((LEARNERS[method],) if method in LEARNERS else study.classifiers)
        if method != "supervised" or fraction == fractions[-1]
    ]
    found: list[dict[str, Any]] = []
    with occupy(out) if out else nullcontext():
        if out:
            settle_plan(out, _plan(study))
        settings = replace(study.settings, combined=_combined(study))
        test = _test(study, pools)
        kinds = read.signal_names[study.window.inside(read.test_signal.features[:, -1].astype(np.float64))]
        region: Region | None = None
        key: tuple[float, int] | None = None
        for number, (method, row, fraction, seed) in enumerate(points):
            kind = f"-{row}" if row in study.classifiers and row != "trees" else ""
            name = f"{method}{kind}-{'all' if fraction is None else f'{fraction:g}'}-run{seed}"
            of = f"-{'+'.join(_combined(study))}" if method == "combined" else ""
            path = out / "points" / f"{name}{of}.json" if out else None
            if path is not None and path.is_file():
                found.append(json.loads(path.read_text(encoding="utf-8")))
                continue
            told.log({"point": name, "done": number, "of": len(points), "seconds_left": None})
            wanted = (fractions[-1] if fraction is None else fraction), seed
            if region is None or key != wanted:
                region, key = _region(study, pools, simulation, *wanted), wanted
            begin = time.monotonic()
            settings.classifier = row if row in CLASSIFIERS else study.settings.classifier
            score = score_events(method, region, test, settings, seed=seed)
            record = {
                "method": method,
                "row": row,
                "fraction": fraction,
                "seed": seed,
                "varied": VARIED,
                **_judge(study, score, region, pools, seed),
                **_improvement(study, score, pools, kinds),
                **settings.label_free(method),
                **_closure(settings.template(method), region, seed),
                "seconds": round(time.monotonic() - begin, 2),
            }
            if path is not None:
                write_atomically(path, json.dumps(record, indent=1, allow_nan=False) + "\n")
            found.append(record)
        order = {method: place for place, method in enumerate(study.methods)}
        found.sort(key=lambda item: (order[item["method"]], item["row"], item["fraction"] or -1.0, item["seed"]))
        content = study_json(found, [*_notes(study), *several_signals(kinds)])
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
            raise UsageError(f"{method} {does} a simulation", do="give one with --simulation")
    if "combined" in study.methods and len(_combined(study)) < 2:
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


def _combined(study: ResonanceStudy) -> tuple[str, ...]:
    return tuple(method for method in study.methods if method in COMBINABLE)


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
    if study.runs < 10:
        notes.append(f"{study.runs} runs: a band wants at least 10")
    if "combined" in study.methods:
        notes.append(f"combined: mean of the scores of {', '.join(_combined(study))}")
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


def _region(
    study: ResonanceStudy, pools: Mapping[str, Sample], simulation: Sample | None, fraction: float, seed: int
) -> Region:
    background, signal = pools["background"], pools["signal"]
    random = np.random.default_rng([seed, 10])
    rows, drawn = random.permutation(len(background)), random.permutation(len(signal))
    half = len(background) // 2
    count = injected(fraction, half, len(signal))
    data = background.select(rows[:half]).join(signal.select(drawn[:count]))
    other = background.select(rows[half:])
    return Region(
        window=study.window,
        data=data,
        background=other.select(study.window.inside(other.mass)),
        signal=signal.select(study.window.inside(signal.mass)),
        simulation=simulation,
    )


def _test(study: ResonanceStudy, pools: Mapping[str, Sample]) -> Sample:
    """Background of all masses, then signal of the region."""
    background, signal = pools["test_background"], pools["test_signal"]
    return background.join(signal.select(study.window.inside(signal.mass)))


def _closure(template: npt.NDArray | None, region: Region, seed: int) -> dict[str, float | None]:
    """How near a template is to true background of the region: a classifier's AUC, Fréchet and kernel distance."""
    if template is None or region.background is None:
        return {"template_auc": None, "template_fpd": None, "template_kpd": None}
    random = np.random.default_rng([seed, 19])
    truth = region.background.features
    drawn = template[random.permutation(len(template))[: len(truth)]]
    test = classifier_test(drawn, truth, folds=2, seed=seed, iterations=50)
    return {
        "template_auc": test.auc,
        "template_fpd": frechet_distance(truth, drawn, seed=seed)[0],
        "template_kpd": kernel_distance(truth, drawn, seed=seed, size=KERNEL_EVENTS)[0],
    }


def _improvement(
    study: ResonanceStudy, score: npt.NDArray, pools: Mapping[str, Sample], kinds: npt.NDArray
) -> dict[str, dict[str, float]]:
    """Total improvement over the signals of the region, where there are several."""
    background = pools["test_background"]
    inside = study.window.inside(background.mass)
    return improvement_over(score[len(background) :], score[: len(background)][inside], kinds)


def _judge(
    study: ResonanceStudy, score: npt.NDArray, region: Region, pools: Mapping[str, Sample], seed: int
) -> dict[str, Any]:
    """Numbers of one training from its scores of `_test`."""
    background = pools["test_background"]
    on_background = score[: len(background)]
    random = np.random.default_rng(seed)
    half = random.random(len(background)) < 0.5
    passed = keep_share(on_background[~half], on_background[half], CUT, random)
    try:
        shape: Sculpting | None = sculpting(background.mass[~half], passed, seed=seed)
    except DataError:  # too few test events for a spectrum: the gain is still worth telling
        shape = None
    # Background stands first among the data.
    own_background = region.data.mass[: len(pools["background"]) // 2]
    n_background = int(np.count_nonzero(study.window.inside(own_background)))
    n_signal = len(region.inside) - n_background
    return {
        **judge(score[len(background) :], on_background[study.window.inside(background.mass)]),
        "chi2_per_ndof": shape.chi2_per_ndof if shape else None,
        "jsd_nats": shape.jsd_nats if shape else None,
        "jsd_floor_nats": shape.jsd_floor_nats if shape else None,
        "s_over_b": n_signal / n_background,
        "n_signal": n_signal,
        "n_background": n_background,
    }
