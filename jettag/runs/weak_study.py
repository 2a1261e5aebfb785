"""jettag weak cwola, iad, supervised, scan: many trainings without jet labels, judged with them."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jettag.config.adaptation import FROZEN_FIRST
from jettag.config.files import write_atomically
from jettag.config.recipe import FinetuneRecipe
from jettag.data.card import load_card
from jettag.data.inputs import expand_inputs
from jettag.errors import DataError, UsageError, nearest
from jettag.evaluation.weak_report import write_study
from jettag.runs.common import NOBODY, Told
from jettag.runs.scan import like_backbone, run_of
from jettag.runs.seen import seen_in_training
from jettag.runs.settling import settle_features
from jettag.runs.weak_data import Pool, Pools, WeakSources, read_pools, several_signals
from jettag.runs.weak_network import train_network
from jettag.runs.weak_plan import settle_study
from jettag.runs.weak_workers import train_points
from jettag.training.devices import choose_device
from jettag.training.run_directory import occupy, read_run
from jettag.weak.classifiers import make_linear, make_principal_trees, make_trees
from jettag.weak.features import with_noise
from jettag.weak.folds import BY_LOSS, Classifier, Selection, fit_folds
from jettag.weak.measures import enough_background
from jettag.weak.mixtures import Mixture, check_fractions, check_method, draw_mixture
from jettag.weak.study import improvement_over, judge, label_free, study_json

__all__ = ["NETWORKS", "ROWS", "WeakStudy", "default_rows", "weak_study"]

NETWORKS = ("finetuned", "scratch")
EMBEDDED = ("trees-embedding", "trees-pca", "trees-bagged", "probe")
ROWS: dict[str, str] = {
    "trees": "boosted trees on jet features",
    "trees-embedding": "boosted trees on the jet embedding of a frozen backbone",
    "trees-pca": "boosted trees on its principal components",
    "trees-bagged": "boosted trees, each on a part of its dimensions",
    "probe": "logistic regression on it",
    "finetuned": "a network from a pre-trained backbone",
    "scratch": "the same network from random weights",
}
BAG_SHARE = 0.25  # of the dimensions that a bagged member sees


@dataclass(frozen=True)
class WeakStudy:
    """What to train.

    Attributes:
        sources: files by role.
        methods: of `jettag.weak.mixtures.METHODS`.
        fractions: of signal in M1; 0 is always among them.
        rows: of `ROWS`.
        runs: trainings of each point, with seeds 0, 1, ...
        features: jet-level.
        other_fraction: of signal in M2.
        folds: of each ensemble of trees.
        max_jets: background jets in each sample, at most.
        test_jets: of each class that judge, at most; drawn at random, the same ones for every point.
        noise_features: columns of pure noise beside the features.
        components: of ``trees-pca``.
        selection: what ends the trainings of trees on mixed samples, with labels it is the loss; that of networks
            stands in the recipe.
        pretrained: run of ``finetuned`` and of the embedding.
        recipe: of the networks.
        own_backbone: whether the recipe's backbone is the one that ``scratch`` takes, not the shape of ``pretrained``.
    """

    sources: WeakSources
    methods: Sequence[str]
    fractions: Sequence[float]
    rows: Sequence[str]
    runs: int = 10
    features: Sequence[str] = ()
    other_fraction: float = 0.0
    folds: int = 5
    max_jets: int | None = None
    test_jets: int | None = None
    noise_features: int = 0
    components: int = 8
    selection: Selection = "argos"
    pretrained: Path | None = None
    recipe: FinetuneRecipe | None = None
    own_backbone: bool = False


@dataclass(frozen=True)
class _Point:
    method: str
    row: str
    fraction: float | None  # None where the method does not mix
    seed: int

    @property
    def name(self) -> str:
        fraction = "all" if self.fraction is None else f"{self.fraction:g}"
        return f"{self.method}-{self.row}-{fraction}-run{self.seed}"

    @property
    def kind(self) -> str:
        return self.row


@dataclass(frozen=True)
class _Shared:
    """What all trainings of a study need."""

    study: WeakStudy
    pools: Pools
    out: Path | None
    device: str


def default_rows(features: Sequence[str], pretrained: bool, keeps_runs: bool) -> list[str]:
    """Raw features, pre-trained and from scratch beside each other, as far as what is given allows."""
    rows = ["trees-embedding"] if list(features) == ["embedding"] else ["trees"]
    if pretrained:
        rows += ["trees-embedding", "probe", *(NETWORKS if keeps_runs else ())]
    return list(dict.fromkeys(rows))


def weak_study(
    study: WeakStudy,
    out: Path | None = None,
    *,
    device: str = "auto",
    workers: int | None = None,
    told: Told = NOBODY,
) -> dict[str, Any]:
    """Train and judge every point that ``out`` does not hold yet; write tables and curves there.

    Args:
        study: what to train.
        out: folder; None keeps nothing.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: processes, which do not change any point; None: as `jettag.runs.weak_workers.train_points`.
        told: hears of notes and progress.

    Returns:
        The object of `weak --json`.

    Raises:
        UsageError: rows, methods or fractions that make no sense, or ``out`` holds another study.
        DataError: the files do not have what is needed.
        Stopped: a signal came; the same command goes on.
    """
    _check(study, out)
    if study.recipe is not None and study.pretrained is not None and not study.own_backbone:
        study = replace(study, recipe=like_backbone(study.recipe, study.pretrained))
    if study.recipe is not None:
        study = replace(study, recipe=_with_features(study.recipe, study, told))
    fractions = sorted({0.0, *study.fractions})
    points = [
        _Point(method, row, None if method == "supervised" else fraction, seed)
        for seed in range(study.runs)
        for fraction in fractions
        for method in study.methods
        for row in study.rows
        if method != "supervised" or fraction == fractions[0]
    ]
    chosen = choose_device(device)
    networks = study.recipe.data if study.recipe and any(row in NETWORKS for row in study.rows) else None
    frozen = networks is not None and "finetuned" in study.rows and _begins_frozen(study.recipe)
    needs_backbone = study.pretrained is not None and (frozen or any(row in EMBEDDED for row in study.rows))
    with occupy(out) if out else nullcontext():
        if out:
            settle_study(out, study, write=False)  # refused before jets are read and embedded
        pools = read_pools(
            study.sources,
            study.features,
            backbone=study.pretrained if needs_backbone else None,
            constituents=(networks.features, networks.max_constituents) if networks else None,
            frozen=frozen,
            test_jets=study.test_jets,
            device=chosen,
            told=told,
        )
        enough_background(len(pools.test_background))
        notes = _notes(study, pools)
        for note in notes:
            told.note(note)
        if out:
            settle_study(out, study)
        known = {point: _known(out, point) for point in points}
        missing = [point for point in points if known[point] is None]
        if len(missing) < len(points):
            told.note(f"{len(points) - len(missing)} of {len(points)} trainings are there already")
        for point in missing:
            _mixture(study, point, pools)  # refused before hours, not after
        found = [result for result in known.values() if result is not None]
        found += train_points(
            _train,
            _Shared(study, pools, out, str(chosen)),
            [[point] for point in missing],
            of=len(points),
            workers=workers,
            device=chosen,
            folder=out,
            told=told,
        )
        content = study_json(sorted(found, key=lambda item: _order(study, item)), notes)
        content["selection"] = study.selection
        if out:
            write_study(out, content)
        return content


def _begins_frozen(recipe: FinetuneRecipe | None) -> bool:
    """Whether fine-tuning begins with embeddings of the backbone as it is, of jets with its own features."""
    if recipe is None or recipe.adaptation.adapt_features or not recipe.adaptation.precompute:
        return False
    return recipe.mode in FROZEN_FIRST


def _with_features(recipe: FinetuneRecipe, study: WeakStudy, told: Told) -> FinetuneRecipe:
    """The recipe with the features that all files of the study give, or those of its backbone."""
    patterns = (study.sources.background, study.sources.signal, study.sources.test)
    inputs = [file for files in patterns for file in expand_inputs(files)]
    return settle_features(recipe, inputs, load_card(study.sources.card), told, network=study.pretrained)


def _check(study: WeakStudy, out: Path | None) -> None:
    for method in study.methods:
        check_method(method)
    for row in study.rows:
        if row not in ROWS:
            raise UsageError(f"no row {row!r} in --rows", do=nearest(row, ROWS))
        if row in EMBEDDED and study.pretrained is None and "embedding" not in study.features:
            raise UsageError(f"row {row} needs embeddings", do="give --from RUN, or --features embedding")
        if row == "finetuned" and study.pretrained is None:
            raise UsageError("row finetuned starts from a backbone", do="give one with --from")
        if row in NETWORKS and out is None:
            raise UsageError(f"row {row} trains networks, which are kept", do="name a folder with --out")
        if row == "trees" and not study.features:
            raise UsageError("row trees needs jet features", do="give --features")
    if not (study.rows and study.fractions and study.methods):
        raise UsageError("nothing to train", do="give --rows and --fraction")
    if study.runs < 1 or study.folds < 2:
        raise UsageError("expected at least one run and two folds", do="give --runs 10 --folds 5")
    for fraction in study.fractions:
        check_fractions(fraction, study.other_fraction)


def _notes(study: WeakStudy, pools: Pools) -> list[str]:
    notes = []
    if study.selection == "loss":
        notes.append(BY_LOSS)
    if study.runs < 10:
        notes.append(f"{study.runs} runs: a band wants at least 10")
    if study.other_fraction == 0 and "cwola" in study.methods:
        notes.append("M2 holds no signal: cwola is then the idealised anomaly detector")
    notes += several_signals(pools.signal_names)
    smallest = 1 / len(pools.test_background)
    if smallest * 25 > 1e-3:
        notes.append(f"{len(pools.test_background)} background jets judge: SIC at 1e-3 rests on fewer than 25 of them")
    beside = [row for row in ("trees", *NETWORKS) if row not in study.rows]
    if study.pretrained is not None and beside:
        notes.append(f"no row {', '.join(beside)} beside the backbone's: give --out and leave out --rows")
    if study.pretrained is not None:
        facts = read_run(run_of(study.pretrained))
        notes += seen_in_training("the backbone", facts, pools.test_inputs)
        if facts.get("class_names"):
            notes.append(f"the backbone was pre-trained with labels of {', '.join(facts['class_names'])}")
    return notes


def _known(out: Path | None, point: _Point) -> dict[str, Any] | None:
    """What an earlier call left of a point."""
    if out is None:
        return None
    try:
        result: dict[str, Any] = json.loads((out / "points" / f"{point.name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result


def _keep(out: Path | None, point: _Point, result: Mapping[str, Any]) -> None:
    if out is not None:
        write_atomically(out / "points" / f"{point.name}.json", json.dumps(result, indent=1, allow_nan=False) + "\n")


def _order(study: WeakStudy, item: Mapping[str, Any]) -> tuple[Any, ...]:
    fraction = -1.0 if item["fraction"] is None else item["fraction"]
    return study.methods.index(item["method"]), study.rows.index(item["row"]), fraction, item["seed"]


def _mixture(study: WeakStudy, point: _Point, pools: Pools) -> Mixture:
    return draw_mixture(
        point.method,
        len(pools.background),
        len(pools.signal),
        fraction=point.fraction or 0.0,
        other_fraction=study.other_fraction,
        seed=point.seed,
        max_jets=study.max_jets,
    )


def _train(shared: _Shared, points: Sequence[_Point]) -> list[dict[str, Any]]:
    """Train, judge and keep points."""
    return [_train_one(shared, point) for point in points]


def _train_one(shared: _Shared, point: _Point) -> dict[str, Any]:
    study, pools, out, device = shared.study, shared.pools, shared.out, shared.device
    mixture = _mixture(study, point, pools)
    begin = time.monotonic()
    if point.row in NETWORKS:
        assert out is not None  # `_check`
        assert study.recipe is not None  # the command loads one
        run = out / "runs" / point.name
        pretrained = study.pretrained if point.row == "finetuned" else None
        score, free = train_network(study.recipe, pools, mixture, run, pretrained, seed=point.seed, device=device)
    else:
        score, free = _fit(study, point, pools, mixture)
    on_signal, on_background = score[len(pools.test_background) :], score[: len(pools.test_background)]
    result = {
        "method": point.method,
        "row": point.row,
        "fraction": point.fraction,
        "other_fraction": study.other_fraction if point.method == "cwola" else 0.0,
        "seed": point.seed,
        **judge(on_signal, on_background),
        **improvement_over(on_signal, on_background, pools.signal_names),
        **free,
        "n_signal": mixture.n_signal,
        "n_background": mixture.n_background,
        "seconds": round(time.monotonic() - begin, 2),
    }
    _keep(out, point, result)
    return result


def _maker(study: WeakStudy, point: _Point, width: int) -> Callable[[int], Classifier]:
    """What makes a fresh classifier of a point whose events have ``width`` features."""
    selection: Selection = "loss" if point.method == "supervised" else study.selection
    if point.row == "trees-pca":
        if study.components > width:
            what = f"{study.components} principal components of {width} dimensions"
            raise DataError(what, do="lower --components")
        return make_principal_trees(study.components, selection)
    return make_linear if point.row == "probe" else partial(make_trees, selection=selection)


def _fit(study: WeakStudy, point: _Point, pools: Pools, mixture: Mixture) -> tuple[npt.NDArray, dict[str, float]]:
    """Scores of the test jets, background first, and what is known without labels."""
    view = partial(_view, study, point)
    train = np.concatenate([view(pools.background, 0)[mixture.background], view(pools.signal, 1)[mixture.signal]])
    test = np.concatenate([view(pools.test_background, 2), view(pools.test_signal, 3)])
    scores = fit_folds(
        _maker(study, point, train.shape[1]),
        train,
        mixture.label,
        test,
        folds=study.folds,
        seed=point.seed,
        share_of_features=BAG_SHARE if point.row == "trees-bagged" else 1.0,
    )
    return scores.test, label_free(scores, mixture.label)


def _view(study: WeakStudy, point: _Point, pool: Pool, place: int) -> npt.NDArray[np.float32]:
    """(n, F) what the row sees of a pool, with noise that is new in each run."""
    if point.row == "trees":
        values = pool.features
    else:
        assert pool.embedding is not None  # `_check`
        values = pool.embedding
    return with_noise(values, study.noise_features, [point.seed, place]) if study.noise_features else values
