"""jettag weak simulators: a tagger of one simulation judged in another, and what brings the first to the second."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jettag.config.files import write_atomically
from jettag.data.inputs import expand_inputs
from jettag.errors import DataError, UsageError, nearest
from jettag.evaluation.plots import save
from jettag.evaluation.weak_simulators import EFFICIENCIES, draw_simulators, simulators_markdown
from jettag.runs.common import NOBODY, Told
from jettag.runs.seen import refuse_shared
from jettag.runs.weak_data import ROLES, Pool, WeakSources, read_pools
from jettag.weak.classifiers import make_trees
from jettag.weak.closure import classifier_test
from jettag.weak.domains import Domain, compare_domains, excess_sigma
from jettag.weak.study import judge, medians

__all__ = ["SIMULATOR_METHODS", "SimulatorStudy", "simulator_study"]

FEWEST = 70  # jets of a class that a run trains on or judges with
SHARE = 0.8  # of the jets of each file role that a run sees
LOOSE = 0.9  # of the simulation's signal at the cut on background alone; that at 0.5 would leave too few jets
# By name, that of the same in `jettag.weak.domains`, where inputs are embeddings.
SIMULATOR_METHODS: dict[str, str] = {
    "none": "none",
    "reweight": "reweight",
    "ot-score": "ot-score",
    "ot-features": "ot-embedding",
}
VARIED = f"{SHARE:.0%} of the jets of both simulations, halves that fit and judge, initialisation"
LOGIT_END = 1e-6  # closest to 0 and 1 that a probability comes

Score = Callable[[npt.NDArray], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class SimulatorStudy:
    """What to compare.

    Attributes:
        sources: files of the simulation that plays the data, by role.
        simulation: files of the other one, of the same classes.
        features: jet-level.
        methods: of `SIMULATOR_METHODS`.
        runs: repetitions, with seeds 0, 1, ...
        folds: of the classifiers that tell the simulations apart.
        max_jets: of each class and sample in a run, at most.
    """

    sources: WeakSources
    simulation: Sequence[str]
    features: Sequence[str]
    methods: Sequence[str] = tuple(SIMULATOR_METHODS)
    runs: int = 10
    folds: int = 5
    max_jets: int | None = None


def simulator_study(study: SimulatorStudy, out: Path | None = None, *, told: Told = NOBODY) -> dict[str, Any]:
    """Train trees in each simulation, judge both in the one that plays the data, and correct the other's.

    Returns:
        The object of `weak simulators --json`: ``taggers`` by where they were trained, ``same`` the two-sample test of
        each class, ``rows`` the corrections, ``no_signal`` a tagger of two parts of the background and the corrections
        of background alone; medians over runs with 16-84 % bands, and ``runs`` with every number.

    Raises:
        UsageError: no method, one that does not exist, or a file of the simulation that judges.
        DataError: the files do not have what is needed, or too few jets of a class.
    """
    if not study.methods:
        raise UsageError("no method is chosen", do=f"choose of {', '.join(SIMULATOR_METHODS)}")
    for method in study.methods:
        if method not in SIMULATOR_METHODS:
            raise UsageError(f"no method {method!r}", do=nearest(method, SIMULATOR_METHODS))
    refuse_shared(expand_inputs(study.simulation), expand_inputs(study.sources.test), "--simulation")
    cpu = torch.device("cpu")
    data = read_pools(study.sources, study.features, device=cpu, told=told)
    # The same roles, with the other simulation's jets where those that judge stand.
    sources = replace(study.sources, test=study.simulation)
    other = read_pools(sources, study.features, device=cpu, told=told, judging="--simulation")
    samples = {
        "simulation": (other.test_background, other.test_signal),
        "data": (data.background, data.signal),
        "test": (data.test_background, data.test_signal),
    }
    _refuse_few(study, samples)
    records: list[dict[str, Any]] = []
    for seed in range(study.runs):
        told.log({"point": f"run {seed}", "done": seed, "of": study.runs, "seconds_left": None})
        records.append(_run(study, samples, seed))
    flat = {
        kind: [{**line, "seed": record["seed"]} for record in records for line in record[kind]]
        for kind in ("taggers", "same", "rows")
    }
    nothing = {kind: [line for record in records for line in record["no_signal"][kind]] for kind in ("taggers", "rows")}
    measures = "distance", "distance_floor", "effective_share", *EFFICIENCIES
    content = {
        "schema": 1,
        "taggers": medians(flat["taggers"], ("trained",), ("auc", "background_rejection", "lost")),
        "same": medians(flat["same"], ("class",), ("two_sample_auc", "two_sample_sigma")),
        "rows": medians(flat["rows"], ("method",), measures),
        "no_signal": {
            "signal_kept": LOOSE,
            "taggers": medians(nothing["taggers"], ("trained",), ("auc", "auc_sigma", "background_rejection")),
            "rows": medians(nothing["rows"], ("method",), (*measures, "true_over_said", "excess_sigma")),
        },
        "runs": records,
        "features": list(study.features),
        "varied": VARIED,
        "notes": _notes(study.runs, flat["taggers"]),
    }
    if out is not None:
        write_atomically(out / "simulators.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
        write_atomically(out / "table.md", simulators_markdown(content))
        save(draw_simulators(content), out / "simulators")
    return content


def _refuse_few(study: SimulatorStudy, samples: dict[str, tuple[Pool, Pool]]) -> None:
    """See before any training that a run has enough jets of each class; those of the simulation train and judge."""
    for name, pools in samples.items():
        for role, pool in zip(ROLES, pools, strict=True):
            option = f"--{role}" if name == "data" else f"--{name}"
            least = 2 * FEWEST if name == "simulation" else FEWEST
            if name != "data" and role == "background":
                least *= 2  # halves of it fit and judge without the signal beside it
            seen = _seen(len(pool), study.max_jets)
            if seen < least:
                what = f"{seen} {role} jets that a run sees of {option} are too few, at least {least} are needed"
                raise DataError(what, do="give more files" if seen == _seen(len(pool), None) else "raise --jets")


def _seen(count: int, most: int | None) -> int:
    """Of so many jets, those that one run sees."""
    return min(int(SHARE * count), most or count)


def _notes(runs: int, taggers: Sequence[dict[str, Any]]) -> list[str]:
    notes = [f"{runs} runs: a band wants at least 10"] if runs < 10 else []
    without = {line["seed"] for line in taggers if line["background_rejection"] is None}
    if without:
        few = f"in {len(without)} of {runs} runs no background passes at 50 % of the signal"
        notes.append(f"{few}, so no rejection is known: give more background in --test")
    return notes


def _run(study: SimulatorStudy, samples: dict[str, tuple[Pool, Pool]], seed: int) -> dict[str, Any]:
    """One draw of jets: half of the simulation trains, the other half is compared with the jets that judge."""
    random = np.random.default_rng([seed, 20])
    drawn: dict[str, list[npt.NDArray]] = {
        name: [pool.features[_some(len(pool), study.max_jets, random)] for pool in pools]
        for name, pools in samples.items()
    }
    halves = [(values[: len(values) // 2], values[len(values) // 2 :]) for values in drawn["simulation"]]
    train, held = ([pair[place] for pair in halves] for place in (0, 1))
    fits = {"simulation": train, "data": drawn["data"]}
    most = [min(len(values[place]) for values in fits.values()) for place in (0, 1)]
    scores = {name: _trained(values[0][: most[0]], values[1][: most[1]], seed) for name, values in fits.items()}
    background, signal = drawn["test"]
    judged = {name: judge(score(signal), score(background)) for name, score in scores.items()}
    own = judged["data"]["background_rejection"]
    taggers = []
    for name, found in judged.items():
        rejection = found["background_rejection"]
        lost = None if own is None or rejection is None else 1 - rejection / own
        taggers.append({"trained": name, "auc": found["auc"], "background_rejection": rejection, "lost": lost})
    same = []
    for place, kind in enumerate(ROLES):
        test = classifier_test(held[place], drawn["test"][place], folds=study.folds, seed=seed)
        same.append({"class": kind, "two_sample_auc": test.auc, "two_sample_sigma": test.sigma})
    mean, width = (getattr(np.concatenate(train), part)(0) for part in ("mean", "std"))
    width = np.where(width > 0, width, 1.0)  # transport wants features on one scale
    # As much signal in the background of both: corrections see no label, and would move one class to the other.
    counts = [min(len(part) for part in parts) for parts in zip(held, drawn["test"], strict=True)]
    simulated, data = (
        _domain([part[:count] for part, count in zip(parts, counts, strict=True)], mean, width)
        for parts in (held, drawn["test"])
    )

    def score_scaled(values: npt.NDArray) -> npt.NDArray[np.float64]:
        return scores["simulation"](values * width + mean)

    rows = _corrected(study, score_scaled, simulated, data, seed)
    cut = float(np.quantile(scores["simulation"](held[1]), 1 - LOOSE))
    simulated, data = (_domain([part], mean, width) for part in (held[0], background))  # background alone
    nothing = {
        "taggers": [_label_free(train[0], background, seed)],
        "rows": _corrected(study, score_scaled, simulated, data, seed, cut=cut),
    }
    return {"seed": seed, "taggers": taggers, "same": same, "rows": rows, "no_signal": nothing}


def _corrected(
    study: SimulatorStudy, score: Score, simulated: Domain, data: Domain, seed: int, *, cut: float | None = None
) -> list[dict[str, Any]]:
    """A row for each correction; with a ``cut`` both samples are background, and rows tell what looks like signal."""
    asked = [SIMULATOR_METHODS[method] for method in study.methods]
    rows, *judging = compare_domains(score, simulated, data, asked, seed=seed, folds=study.folds, cut=cut)
    fitting = [len(one.inputs) - count for one, count in zip((simulated, data), judging, strict=True)]
    for row, method in zip(rows, study.methods, strict=True):
        row |= {"method": method, "effective_share": row["effective_sample_size"] / judging[0]}
        if cut is not None:
            said, true = (row[f"background_efficiency_{which}"] for which in ("said", "true"))
            sizes = [row["effective_sample_size"], judging[1], *(fitting if method != "none" else [])]
            row |= {"true_over_said": true / said if said else None, "excess_sigma": excess_sigma(said, true, sizes)}
    return rows


def _label_free(background: npt.NDArray, test: npt.NDArray, seed: int) -> dict[str, Any]:
    """A tagger of the simulation that tells two parts of its background apart, judged on two parts of the data's."""
    random = np.random.default_rng([seed, 21])
    parts = [random.permutation(len(values)) % 2 == 1 for values in (background, test)]
    score = _trained(background[~parts[0]], background[parts[0]], seed)
    judges = test[~parts[1]], test[parts[1]]
    found = judge(score(judges[1]), score(judges[0]))
    sigma = math.sqrt((len(test) + 1) / (12 * len(judges[0]) * len(judges[1])))  # of Mann and Whitney's statistic
    return {
        "trained": "parts of the background",
        "auc": found["auc"],
        "auc_sigma": sigma,
        "background_rejection": found["background_rejection"],
    }


def _some(count: int, most: int | None, random: np.random.Generator) -> npt.NDArray[np.int64]:
    return random.permutation(count)[: _seen(count, most)]


def _trained(background: npt.NDArray, signal: npt.NDArray, seed: int) -> Score:
    """(n, F) features to (n,) log odds of trees that tell signal from background."""
    trees = make_trees(seed)
    trees.fit(np.concatenate([background, signal]), np.repeat([0, 1], [len(background), len(signal)]))

    def score(values: npt.NDArray) -> npt.NDArray[np.float64]:
        found = np.clip(trees.predict_proba(values)[:, 1], LOGIT_END, 1 - LOGIT_END)
        odds: npt.NDArray[np.float64] = np.log(found / (1 - found))
        return odds

    return score


def _domain(values: Sequence[npt.NDArray], mean: npt.NDArray, width: npt.NDArray) -> Domain:
    """Background, and signal if there is some, on one scale."""
    classes = [False, True][: len(values)]
    return Domain((np.concatenate(values) - mean) / width, np.repeat(classes, [len(part) for part in values]))
