"""The methods of `jettag weak compare` in one signal region of one draw of the events, trained, judged and kept."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jettag.config.files import write_atomically
from jettag.errors import DataError
from jettag.runs.weak_data import WeakSources
from jettag.runs.weak_hunt import HUNT_FEATURES, injected
from jettag.weak.closure import classifier_test, frechet_distance, kernel_distance
from jettag.weak.resonance import CLASSIFIERS, COMBINABLE, ResonanceSettings, score_events
from jettag.weak.samples import Region, Sample
from jettag.weak.sculpting import Sculpting, keep_share, sculpting
from jettag.weak.study import improvement_over, judge
from jettag.weak.windows import Window

__all__ = ["CUT", "RegionPoint", "ResonanceStudy", "Shared", "combined_of", "known_point", "put_in", "train_region"]

KERNEL_EVENTS = 1000  # of a batch of the kernel distance: its mean is that of any size, its cost the square
CUT = 0.05  # share of the background that passes where sculpting is measured
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


@dataclass(frozen=True)
class Shared:
    """What all trainings of a study need.

    Attributes:
        study: what to compare.
        pools: events of the window, by role.
        simulation: likewise.
        kinds: (s,) names of the signals that judge inside the region.
        out: folder, or None.
    """

    study: ResonanceStudy
    pools: Mapping[str, Sample]
    simulation: Sample | None
    kinds: npt.NDArray[np.str_]
    out: Path | None


@dataclass(frozen=True)
class RegionPoint:
    """One training.

    Attributes:
        method: of `jettag.weak.resonance.RESONANCE_METHODS`.
        row: what it learns with.
        fraction: of signal among the data; None where the method does not look at it.
        seed: of everything drawn.
    """

    method: str
    row: str
    fraction: float | None
    seed: int

    @property
    def name(self) -> str:
        """As its file is called."""
        row = f"-{self.row}" if self.row in CLASSIFIERS and self.row != "trees" else ""
        return f"{self.method}{row}-{'all' if self.fraction is None else f'{self.fraction:g}'}-run{self.seed}"

    @property
    def kind(self) -> str:
        """Of trainings that cost about the same."""
        return self.method


def put_in(study: ResonanceStudy, point: RegionPoint) -> float:
    """The fraction of signal in a point's region."""
    return max(study.fractions, default=0.0) if point.fraction is None else point.fraction


def train_region(shared: Shared, points: Sequence[RegionPoint]) -> list[dict[str, Any]]:
    """Train, judge and keep the methods of one region, ``combined`` last."""
    study = shared.study
    seed = points[0].seed
    region = _region(study, shared.pools, shared.simulation, put_in(study, points[0]), seed)
    test = _test(study, shared.pools)
    settings = replace(study.settings, combined=combined_of(study))
    found = []
    for point in points:
        begin = time.monotonic()
        settings.classifier = point.row if point.row in CLASSIFIERS else study.settings.classifier
        score = score_events(point.method, region, test, settings, seed=seed)
        record = {
            "method": point.method,
            "row": point.row,
            "fraction": point.fraction,
            "seed": seed,
            "varied": VARIED,
            **_judge(study, score, region, shared.pools, seed),
            **_improvement(study, score, shared.pools, shared.kinds),
            **settings.label_free(point.method),
            **_closure(settings.template(point.method), region, seed),
            "seconds": round(time.monotonic() - begin, 2),
        }
        path = _path(study, shared.out, point)
        if path is not None:
            write_atomically(path, json.dumps(record, indent=1, allow_nan=False) + "\n")
        found.append(record)
    return found


def _path(study: ResonanceStudy, out: Path | None, point: RegionPoint) -> Path | None:
    """Where a point is kept."""
    of = f"-{'+'.join(combined_of(study))}" if point.method == "combined" else ""
    return out / "points" / f"{point.name}{of}.json" if out else None


def known_point(study: ResonanceStudy, out: Path | None, point: RegionPoint) -> dict[str, Any] | None:
    """What an earlier call left of a point."""
    path = _path(study, out, point)
    if path is None or not path.is_file():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def combined_of(study: ResonanceStudy) -> tuple[str, ...]:
    """The methods whose mean ``combined`` is."""
    return tuple(method for method in study.methods if method in COMBINABLE)


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
