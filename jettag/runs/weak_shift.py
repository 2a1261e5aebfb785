"""jettag weak shift: a tagger's scores in one sample brought to those of another, by weights or by transport."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import wasserstein_distance

from jettag.config.files import write_atomically
from jettag.data.card import load_card
from jettag.data.opening import expand_data, open_jets
from jettag.errors import DataError, UsageError, nearest
from jettag.evaluation.weak_calibration import shift_markdown
from jettag.objectives import Flavour
from jettag.runs.common import NOBODY, Told
from jettag.runs.weak_calibration import Asked, ask_tagger, last_layer
from jettag.training import Tagger, load_tagger
from jettag.weak.calibration import effective_sample_size
from jettag.weak.resonance import ResonanceSettings, reweight
from jettag.weak.transport import transport_embeddings, transport_scores

__all__ = ["SHIFTS", "shift_study"]

SHIFTS: dict[str, str] = {
    "none": "the source as it is",
    "reweight": "weights g / (1 - g) of a classifier on the tagger's embeddings (arXiv:1506.02169)",
    "ot-score": "monotone transport of the scores",
    "ot-embedding": "transport of the embeddings, scored by the tagger's last layer (arXiv:2507.08867)",
}
EFFICIENCY = 0.5
FEWEST = 50  # jets in a half of a sample


def shift_study(
    run: Path,
    source: Sequence[str],
    target: Sequence[str],
    *,
    methods: Sequence[str] = tuple(SHIFTS),
    signal: str | None = None,
    truth: bool = True,
    card: str | None = None,
    seed: int = 0,
    folds: int = 5,
    out: Path | None = None,
    device: torch.device,
    told: Told = NOBODY,
) -> dict[str, Any]:
    """Fit each method on half of both samples without labels, and judge on the other halves.

    Args:
        run: a tagger.
        source: files of the simulation.
        target: files of the data, or of another simulation that plays it.
        methods: of `SHIFTS`.
        signal: class whose score is looked at; default the first.
        truth: whether both samples have true classes, which judge.
        card: instead of the one the run was trained with.
        seed: of halves and classifiers.
        folds: of the classifier.
        out: folder for JSON and table.
        device: to compute on.
        told: what is done.

    Raises:
        UsageError: a method or class that does not exist, or a tagger without a last linear layer.
        DataError: the files do not have what is needed.
    """
    for method in methods:
        if method not in SHIFTS:
            raise UsageError(f"no method {method!r}", do=nearest(method, SHIFTS))
    tagger = load_tagger(run)
    if isinstance(tagger.model, Flavour) or last_layer(tagger) is None:
        raise UsageError("the tagger has no last linear layer on a jet embedding", where=run)
    chosen = signal or tagger.class_names[0]
    if chosen not in tagger.class_names:
        raise UsageError(f"no class {chosen!r}", do=nearest(chosen, tagger.class_names))
    asked = []
    for files in (source, target):
        inputs = expand_data(files)
        told.note(f"asking the tagger of {len(inputs)} files")
        table = open_jets(
            inputs,
            load_card(card or tagger.run / "card.yaml"),
            split="test",
            features=tagger.features,
            labels=truth,
            classes=tagger.class_names if truth else None,
            max_constituents=tagger.max_constituents,
        )
        asked.append(ask_tagger(tagger, table, device))
    content = _compare(tagger, asked, methods, tagger.class_names.index(chosen), seed, folds)
    content |= {"signal": chosen, "notes": [] if truth else ["no true classes: efficiencies are not known"]}
    if out is not None:
        write_atomically(out / "shift.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
        write_atomically(out / "table.md", shift_markdown(content))
    return content


def _compare(
    tagger: Tagger, asked: Sequence[Asked], methods: Sequence[str], place: int, seed: int, folds: int
) -> dict[str, Any]:
    fits = [np.random.default_rng([seed, 18, i]).random(len(one.logits)) < 0.5 for i, one in enumerate(asked)]
    for name, fit in zip(("source", "target"), fits, strict=True):
        if min(fit.sum(), (~fit).sum()) < FEWEST:
            raise DataError(f"{len(fit)} jets in the {name} are too few", do="give more files")
    source, target = asked
    scores = [_log_odds(one.logits, place) for one in asked]
    embeddings = []
    for one in asked:
        assert one.embedding is not None  # `shift_study` refuses other heads
        embeddings.append(one.embedding)
    judged = scores[1][~fits[1]]
    half = np.arange(len(judged)) % 2 == 0
    floor = float(wasserstein_distance(judged[half], judged[~half]))
    kept = scores[0][fits[0]] if source.label is None else scores[0][fits[0] & (source.label == place)]
    cut = float(np.quantile(kept, 1 - EFFICIENCY))
    rows = []
    for method in methods:
        own, weight = scores[0][~fits[0]], np.ones(int((~fits[0]).sum()))
        if method == "reweight":
            simulated, data = (embedding[fit] for embedding, fit in zip(embeddings, fits, strict=True))
            settings = ResonanceSettings(folds=folds)
            weight = reweight(simulated, data, embeddings[0][~fits[0]], settings, seed=seed)
        elif method == "ot-score":
            own = transport_scores(scores[0][fits[0]], scores[1][fits[1]])(own)
        elif method == "ot-embedding":
            move = transport_embeddings(embeddings[0][fits[0]], embeddings[1][fits[1]], seed=seed)
            own = _log_odds(_logits(tagger, move(embeddings[0][~fits[0]])), place)
        row: dict[str, Any] = {
            "method": method,
            "distance": float(wasserstein_distance(own, judged, u_weights=weight)),
            "distance_floor": floor,
            "effective_sample_size": effective_sample_size(weight),
        }
        for kind, is_signal in (("background", False), ("signal", True)):
            said = true = None
            if source.label is not None and target.label is not None:
                of_source = (source.label[~fits[0]] == place) == is_signal
                of_target = (target.label[~fits[1]] == place) == is_signal
                said = float(np.average(own[of_source] >= cut, weights=weight[of_source]))
                true = float(np.mean(judged[of_target] >= cut))
            row |= {f"{kind}_efficiency_said": said, f"{kind}_efficiency_true": true}
        rows.append(row)
    return {"schema": 1, "rows": rows, "n_source": int((~fits[0]).sum()), "n_target": int((~fits[1]).sum())}


def _log_odds(logits: npt.NDArray, place: int) -> npt.NDArray[np.float64]:
    """(n,) log of p / (1 - p) of one class."""
    others = np.delete(logits, place, axis=1)
    highest = others.max(1)
    rest = highest + np.log(np.exp(others - highest[:, None]).sum(1))
    odds: npt.NDArray[np.float64] = logits[:, place] - rest
    return odds


def _logits(tagger: Tagger, embedding: npt.NDArray) -> npt.NDArray[np.float64]:
    """(n, C) of the last layer."""
    found = last_layer(tagger)
    assert found is not None  # `shift_study` refuses other heads
    weight, bias = (part.detach().cpu().double().numpy() for part in (found[1].weight, found[1].bias))
    logits: npt.NDArray[np.float64] = embedding @ weight.T + bias
    return logits
