"""jettag weak shift: a tagger's scores in one sample brought to those of another, by weights or by transport."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jettag.config.files import write_atomically
from jettag.data.card import load_card
from jettag.data.opening import expand_data, open_jets
from jettag.errors import UsageError, nearest
from jettag.evaluation.weak_calibration import shift_markdown
from jettag.objectives import Flavour
from jettag.runs.common import NOBODY, Told
from jettag.runs.seen import refuse_shared
from jettag.runs.weak_calibration import ask_tagger, last_layer
from jettag.runs.weak_hunt import FEWEST_RUNS
from jettag.training import Tagger, load_tagger
from jettag.weak.domains import SHIFTS, Domain, check_shifts, compare_domains
from jettag.weak.study import medians

__all__ = ["shift_study"]

SPLIT = "test"  # of prepared directories that name none
VARIED = "halves that fit and judge, classifiers"


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
    runs: int = 10,
    folds: int = 5,
    out: Path | None = None,
    device: torch.device,
    told: Told = NOBODY,
) -> dict[str, Any]:
    """Fit each method on half of both samples without labels, and judge on the other halves; many times.

    Args:
        run: a tagger.
        source: files of the simulation.
        target: files of the data, or of another simulation that plays it.
        methods: of `SHIFTS`.
        signal: class whose score is looked at; default the first.
        truth: whether both samples have true classes, which judge.
        card: instead of the one the run was trained with.
        seed: of halves and classifiers, of the first run.
        runs: draws of the halves, over which rows are medians.
        folds: of the classifier.
        out: folder for JSON and table.
        device: to compute on.
        told: what is done.

    Raises:
        UsageError: a method or class that does not exist, or a tagger without a last linear layer.
        DataError: the files do not have what is needed.
    """
    check_shifts(methods)
    refuse_shared(expand_data(source), expand_data(target), "--source", "--target", splits=(SPLIT, SPLIT))
    tagger = load_tagger(run)
    if isinstance(tagger.model, Flavour) or last_layer(tagger) is None:
        raise UsageError("the tagger has no last linear layer on a jet embedding", where=run)
    chosen = signal or tagger.class_names[0]
    if chosen not in tagger.class_names:
        raise UsageError(f"no class {chosen!r}", do=nearest(chosen, tagger.class_names))
    place = tagger.class_names.index(chosen)
    domains = []
    for files in (source, target):
        inputs = expand_data(files)
        told.note(f"asking the tagger of {len(inputs)} files")
        table = open_jets(
            inputs,
            load_card(card or tagger.run / "card.yaml"),
            split=SPLIT,
            features=tagger.features,
            labels=truth,
            classes=tagger.class_names if truth else None,
            max_constituents=tagger.max_constituents,
        )
        asked = ask_tagger(tagger, table, device)
        assert asked.embedding is not None  # other heads are refused above
        domains.append(Domain(asked.embedding, None if asked.label is None else asked.label == place))
    simulated, data = domains
    records: list[dict[str, Any]] = []
    counts = []
    for run_seed in range(seed, seed + runs):
        told.log({"point": f"run {run_seed}", "done": run_seed - seed, "of": runs, "seconds_left": None})
        found, *count = compare_domains(
            lambda embedding: _log_odds(_logits(tagger, embedding), place),
            simulated,
            data,
            methods,
            seed=run_seed,
            folds=folds,
        )
        records += [{**row, "seed": run_seed} for row in found]
        counts.append(count)
    n_source, n_target = (round(float(value)) for value in np.median(counts, axis=0))
    notes = [] if truth else ["no true classes: efficiencies are not known"]
    notes += [f"{runs} runs: a band wants at least {FEWEST_RUNS}"] if runs < FEWEST_RUNS else []
    content: dict[str, Any] = {"schema": 1, "rows": _rows(records, methods), "runs": records, "n_runs": runs}
    content |= {"n_source": n_source, "n_target": n_target, "varied": VARIED, "signal": chosen, "notes": notes}
    if out is not None:
        write_atomically(out / "shift.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
        write_atomically(out / "table.md", shift_markdown(content))
    return content


def _rows(records: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> list[dict[str, Any]]:
    """For each method the medians over runs under the names of the numbers, and ``_low`` and ``_high`` of the bands."""
    names = [name for name in records[0] if name not in ("method", "seed")]
    found = {row["method"]: row for row in medians(records, ("method",), names)}
    return [
        {"method": method}
        | {name: found[method][f"{name}_median"] for name in names}
        | {f"{name}_{edge}": found[method][f"{name}_{edge}"] for name in names for edge in ("low", "high")}
        for method in dict.fromkeys(methods)
    ]


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
