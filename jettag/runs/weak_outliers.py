"""jettag weak outliers: what a background alone finds odd, judged on every other class of the test jets."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jettag.config.files import write_atomically
from jettag.data.card import load_card
from jettag.data.inputs import expand_inputs
from jettag.data.jets import JetTable, concatenate
from jettag.errors import DataError, UsageError, nearest
from jettag.evaluation.weak_report import NO_SIGNAL, outlier_markdown
from jettag.runs.common import NOBODY, Told
from jettag.runs.seen import refuse_shared
from jettag.runs.weak_data import Pool, Reader, class_names_of, embed_pool, make_pool
from jettag.training.devices import choose_device
from jettag.training.restore import features_of
from jettag.weak.autoencoders import AutoencoderSettings, jet_images
from jettag.weak.checks import check_features
from jettag.weak.features import columns_of
from jettag.weak.measures import enough_background, sic_curve, total_improvement
from jettag.weak.outliers import OUTLIERS, fit_outliers
from jettag.weak.study import judge, medians

__all__ = ["INPUTS", "OutlierStudy", "outlier_study"]

INPUTS: dict[str, str] = {
    "features": "jet-level features",
    "constituents": "jet images",
    "embedding": "the jet embedding of a frozen backbone",
}
FEWEST = 50  # background jets
SHARE = 0.8  # of the background that a run sees
MEASURED = ("max_sic", "sic_1e-2", "sic_1e-3", "auc")
IMAGE_FEATURES, IMAGE_CONSTITUENTS = "jetclass_kin", 128  # the smallest feature set; only the momenta are used


@dataclass(frozen=True)
class OutlierStudy:
    """What to fit.

    Attributes:
        background: files whose jets are fitted, with no other label.
        test: files with jets of the background's classes and of others, which are the signals.
        methods: of `jettag.weak.outliers.OUTLIERS`.
        inputs: of `INPUTS`.
        features: jet-level.
        card: data card.
        background_class: classes that count as background; default all in those files.
        pretrained: run whose embeddings are taken.
        runs: repetitions, with seeds 0, 1, ...
        max_jets: background jets that are fitted, at most.
        settings: of autoencoders.
    """

    background: Sequence[str]
    test: Sequence[str]
    methods: Sequence[str]
    inputs: Sequence[str]
    features: Sequence[str]
    card: str = "jetclass"
    background_class: Sequence[str] = ()
    pretrained: Path | None = None
    runs: int = 10
    max_jets: int | None = None
    settings: AutoencoderSettings = field(default_factory=AutoencoderSettings)


def outlier_study(
    study: OutlierStudy, out: Path | None = None, *, device: str = "auto", told: Told = NOBODY
) -> dict[str, Any]:
    """Fit every method on every kind of input, judge on each signal, and sum up by the total improvement.

    Returns:
        ``rows`` for each method, input and signal with medians over runs and 16-84 % bands, one of them without signal:
        background that was not fitted in its place; ``improvement`` for each method and input: smallest, median and
        largest over signals.

    Raises:
        UsageError: a method or input that does not exist, or needs what is not given.
        DataError: the files do not have what is needed.
    """
    _check(study)
    background, tests, own_name = _read(study, torch.device(choose_device(device)), told)
    if own_name not in tests or len(tests) < 2:
        what = "the test jets are not of two classes or more" if own_name in tests else "no background among the tests"
        raise DataError(what, do="give --test files of the background and of signals")
    enough_background(len(tests[own_name]))
    records: list[dict[str, Any]] = []
    improvements: list[dict[str, Any]] = []
    total = study.runs * len(study.inputs) * len(study.methods)
    for seed in range(study.runs):
        order = np.random.default_rng([seed, 16]).permutation(len(background))
        most = min(int(SHARE * len(background)), study.max_jets or len(background))
        rows, left = order[:most], order[most:]
        for kind in study.inputs:
            known_values = _values(background, kind)
            fitted, unseen = known_values[rows], known_values[left]
            for method in study.methods:
                point = {"method": method, "row": kind, "seed": seed}
                done = {"done": len(improvements), "of": total, "seconds_left": None}
                told.log({"point": f"{method} {kind} run {seed}", **done})
                score = fit_outliers(method, fitted, settings=study.settings, seed=seed)
                scores = {name: score(_values(pool, kind)) for name, pool in tests.items()}
                known = scores.pop(own_name)
                records += [{**point, "signal": name, **judge(own, known)} for name, own in scores.items()]
                curves = {name: sic_curve(own, known) for name, own in scores.items()}
                improvements.append({**point, **total_improvement(curves)})
                records.append({**point, "signal": NO_SIGNAL, **judge(score(unseen), known)})
    content = {
        "schema": 1,
        "rows": medians(records, ("method", "row", "signal"), MEASURED),
        "improvement": medians(improvements, ("method", "row"), ("min", "median", "max")),
        "runs": records,
        "background": own_name,
        "n_background": len(rows),
        "varied": f"{SHARE:.0%} of the background that are fitted, initialisation",
        "notes": [f"{study.runs} runs: a band wants at least 10"] if study.runs < 10 else [],
    }
    if out is not None:
        write_atomically(out / "outliers.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
        write_atomically(out / "table.md", outlier_markdown(content))
    return content


def _check(study: OutlierStudy) -> None:
    for option, asked, known in (("--methods", study.methods, OUTLIERS), ("--inputs", study.inputs, INPUTS)):
        if not asked:
            raise UsageError("nothing to fit", where=option, do=f"name some of {', '.join(known)}")
        for name in asked:
            if name not in known:
                raise UsageError(f"no {name!r} in {option}", do=nearest(name, known))
    if "embedding" in study.inputs and study.pretrained is None:
        raise UsageError("input embedding needs a backbone", do="give one with --from")


def _read(study: OutlierStudy, device: torch.device, told: Told) -> tuple[Pool, dict[str, Pool], str]:
    """The jets that are fitted; the test jets of each class; and the name under which the background stands there."""
    card = load_card(study.card)
    files = {"background": expand_inputs(study.background), "test": expand_inputs(study.test)}
    refuse_shared(files["background"], files["test"], "--background")
    classes = class_names_of(card, files)
    backbone = study.pretrained if "embedding" in study.inputs else None
    most = IMAGE_CONSTITUENTS if "constituents" in study.inputs else None
    wanted = None if most is None else (features_of(backbone)[0] if backbone else IMAGE_FEATURES, most)
    features = study.features if "features" in study.inputs else ()
    reader = Reader(card, columns_of(features) if features else (), classes, wanted, backbone)
    pools: dict[str, list[tuple[str, Pool]]] = {}
    for role, inputs in files.items():
        jets, table = reader(inputs, "background" if role == "background" else "")
        present = [int(place) for place in np.unique(jets.label) if place >= 0]
        own = [(classes[place], make_pool(jets, table, features, jets.label == place)) for place in present]
        if backbone is not None:
            own = [(name, embed_pool(pool, backbone, device, told, f"{role} {name}", most=most)) for name, pool in own]
        pools[role] = own
    for name in study.background_class:
        if name not in classes:
            raise UsageError(f"no class {name!r} for --background-class", do=nearest(name, classes))
    chosen = [name for name, _ in pools["background"] if not study.background_class or name in study.background_class]
    if not chosen:
        raise DataError(
            "no background jet", where=f"--background {study.background[0]}", do="choose --background-class"
        )
    label = "+".join(chosen)
    tests: dict[str, Pool] = {}
    for name, pool in pools["test"]:
        place = label if name in chosen else name
        tests[place] = _join(tests[place], pool) if place in tests else pool
    fitted = [pool for name, pool in pools["background"] if name in chosen]
    background = fitted[0]
    for pool in fitted[1:]:
        background = _join(background, pool)
    for option, some in (("--background", [background]), ("--test", tests.values())):
        for pool in some:
            check_features(pool.features, tuple(features), where=f"{option} {files[option[2:]][0].address}")
    if len(background) < FEWEST:
        what = f"{len(background)} background jets are too few to fit, at least {FEWEST} are needed"
        raise DataError(what, where=study.background[0], do="give more files in --background")
    return background, tests, label


def _join(first: Pool, second: Pool) -> Pool:
    embedding = None
    if first.embedding is not None and second.embedding is not None:
        embedding = np.concatenate([first.embedding, second.embedding])
    jets = concatenate([first.jets, second.jets]) if first.jets is not None and second.jets is not None else None
    return Pool(np.concatenate([first.features, second.features]), embedding, jets)


def _values(pool: Pool, kind: str) -> npt.NDArray[np.float32]:
    """(n, F) of one kind of input."""
    if kind == "features":
        return pool.features
    if kind == "embedding":
        assert pool.embedding is not None  # `_check`
        return pool.embedding
    assert pool.jets is not None  # `_read` asks for constituents
    return _images(pool.jets)


def _images(jets: JetTable) -> npt.NDArray[np.float32]:
    """(J, pixels^2) of the constituents' momenta about the jet's axis."""
    px, py, pz, _ = jets.p4.astype(np.float64).T
    axis = np.add.reduceat(jets.p4.astype(np.float64), jets.offsets[:-1])
    pt = np.hypot(px, py)
    phi = np.arctan2(py, px) - np.repeat(np.arctan2(axis[:, 1], axis[:, 0]), jets.counts)
    phi = (phi + np.pi) % (2 * np.pi) - np.pi
    return jet_images(pt, np.arcsinh(pz / np.maximum(pt, 1e-12)), phi, jets.offsets)
