"""jettag weak calibrate: do the probabilities of taggers say what comes, and what makes them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jettag.config.files import write_atomically
from jettag.data.card import load_card
from jettag.data.jets import Jets, Table
from jettag.data.opening import expand_data, open_jets
from jettag.errors import UsageError
from jettag.evaluation.plots import render
from jettag.evaluation.scores import name_runs
from jettag.evaluation.weak_calibration import calibration_markdown, draw_reliability
from jettag.models.heads import ClassHead
from jettag.objectives import Flavour
from jettag.runs.common import NOBODY, Told
from jettag.runs.inference import apply_to_all
from jettag.runs.seen import refuse_shared, seen_in_training
from jettag.training import Tagger, load_tagger
from jettag.weak.calibration import (
    calibration_error,
    fit_laplace,
    fit_temperature,
    negative_log_likelihood,
    reliability,
)

__all__ = ["Asked", "ask_tagger", "calibration_study", "last_layer"]

SPLITS = ("val", "test")  # that calibrate and judge, of prepared directories that name none
FLOOR_DRAWS = 20


@dataclass(frozen=True)
class Asked:
    """What a tagger says of jets.

    Attributes:
        logits: (n, C).
        embedding: (n, D) that its last layer sees, or None where there is no such layer.
        label: (n,) true classes, or None where they were not asked for.
    """

    logits: npt.NDArray[np.float64]
    embedding: npt.NDArray[np.float64] | None
    label: npt.NDArray[np.int64] | None

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """(n, C)."""
        return _softmax(self.logits)


def _softmax(logits: npt.NDArray) -> npt.NDArray[np.float64]:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    result: npt.NDArray[np.float64] = raised / raised.sum(1, keepdims=True)
    return result


def last_layer(tagger: Tagger) -> tuple[Callable[[Jets], Tensor], torch.nn.Linear] | None:
    """What computes the inputs of the tagger's last layer, and that layer; None of a head that reads constituents."""
    model = tagger.model
    head = model.head
    if not isinstance(head, ClassHead):
        return None
    *before, last = head.layers
    assert isinstance(last, torch.nn.Linear)  # `ClassHead` ends with one

    def inputs(jets: Jets) -> Tensor:
        values = model.embed(jets)
        for layer in before:
            values = layer(values)
        return values

    return inputs, last


def ask_tagger(tagger: Tagger, table: Table, device: torch.device) -> Asked:
    """Logits of all jets, and what the last layer sees."""
    tagger.model.to(device).eval()
    last = last_layer(tagger)
    if last is None:
        return Asked(apply_to_all(tagger.model.logits, table, device, None).astype(np.float64), None, table.label)
    inputs, layer = last
    embedding = apply_to_all(inputs, table, device, None).astype(np.float64)
    weight, bias = (part.detach().cpu().double().numpy() for part in (layer.weight, layer.bias))
    return Asked(embedding @ weight.T + bias, embedding, table.label)


def calibration_study(
    runs: Sequence[Path],
    data: Sequence[str],
    test: Sequence[str],
    *,
    card: str | None = None,
    out: Path | None = None,
    device: torch.device,
    told: Told = NOBODY,
) -> dict[str, Any]:
    """Judge every run as it is, with a temperature, with a Laplace approximation; and all of them as an ensemble.

    Args:
        runs: taggers of the same classes.
        data: files whose jets calibrate; they trained nothing.
        test: files whose jets judge.
        card: instead of the one each run was trained with.
        out: folder for JSON, table and figure.
        device: to compute on.
        told: whether a run was trained on these jets.

    Raises:
        UsageError: runs of different classes, or a flavour tagger.
        DataError: jets that calibrate judge too, or the files do not have what is needed.
    """
    refuse_shared(expand_data(data), expand_data(test), "--data", splits=SPLITS)
    rows: list[dict[str, Any]] = []
    curves: dict[str, Any] = {}
    notes: list[str] = []
    names: tuple[str, ...] | None = None
    each: list[tuple[Asked, Asked]] = []
    for name, run in zip(name_runs(runs), runs, strict=True):
        tagger = load_tagger(run)
        if isinstance(tagger.model, Flavour):
            raise UsageError("a flavour tagger has working points instead", where=run, do="see `jettag eval`")
        if names is not None and tagger.class_names != names:
            raise UsageError("the runs have other classes", where=run, do=f"expected {', '.join(names)}")
        names = tagger.class_names
        asked = []
        for split, files in zip(SPLITS, (data, test), strict=True):
            inputs = expand_data(files)
            notes += [note for note in seen_in_training(name, tagger.facts, inputs, split) if note not in notes]
            told.note(f"asking {name} of {len(inputs)} files")
            asked.append(ask_tagger(tagger, _open(tagger, files, card, split), device))
        fitted, judged = asked
        each.append((fitted, judged))
        rows += _judge_run(name, tagger, fitted, judged, curves)
    if len(each) > 1:
        rows += _judge_ensemble(each, curves)
    content = {
        "schema": 1,
        "rows": rows,
        "class_names": list(names or ()),
        "n_calibration": len(each[0][0].logits),
        "n_test": len(each[0][1].logits),
        "reliability": curves,
        "notes": notes,
    }
    if out is not None:
        write_atomically(out / "calibration.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
        write_atomically(out / "table.md", calibration_markdown(content))
        figure = draw_reliability(content)
        for kind in ("png", "pdf"):
            write_atomically(out / f"reliability.{kind}", render(figure, kind))
    return content


def _open(tagger: Tagger, files: Sequence[str], card: str | None, split: str) -> Table:
    return open_jets(
        expand_data(files),
        load_card(card or tagger.run / "card.yaml"),
        split=split,
        features=tagger.features,
        labels=True,
        classes=tagger.class_names,
        max_constituents=tagger.max_constituents,
    )


def _judge_run(name: str, tagger: Tagger, fitted: Asked, judged: Asked, curves: dict[str, Any]) -> list[dict[str, Any]]:
    assert fitted.label is not None  # labels=True
    temperature = fit_temperature(fitted.logits, fitted.label)
    found = [
        _row(name, "as it is", judged.probabilities, judged, curves),
        _row(name, "temperature", _softmax(judged.logits / temperature), judged, curves, temperature=temperature),
    ]
    n_train = tagger.facts.get("n_train")
    if fitted.embedding is not None and judged.embedding is not None and n_train:
        laplace = fit_laplace(fitted.embedding, fitted.logits, fitted.label, n_train=int(n_train))
        found.append(_row(name, "laplace", laplace(judged.embedding, judged.logits), judged, curves))
    return found


def _judge_ensemble(each: Sequence[tuple[Asked, Asked]], curves: dict[str, Any]) -> list[dict[str, Any]]:
    fitted, judged = (np.mean([pair[place].probabilities for pair in each], axis=0) for place in (0, 1))
    label = each[0][0].label
    assert label is not None  # labels=True
    temperature = fit_temperature(np.log(np.maximum(fitted, 1e-300)), label)
    name, truth = f"ensemble of {len(each)}", each[0][1]
    cooled = _softmax(np.log(np.maximum(judged, 1e-300)) / temperature)
    return [
        _row(name, "as it is", judged, truth, curves),
        _row(name, "temperature", cooled, truth, curves, temperature=temperature),
    ]


def _row(
    run: str, method: str, probabilities: npt.NDArray, judged: Asked, curves: dict[str, Any], **more: float
) -> dict[str, Any]:
    label = judged.label
    assert label is not None  # labels=True
    found = reliability(probabilities, label)
    curves[f"{run}, {method}"] = {
        "confidence": found.confidence.tolist(),
        "accuracy": found.accuracy.tolist(),
        "count": found.count.tolist(),
    }
    truth = np.eye(probabilities.shape[1])[label]
    return {
        "run": run,
        "method": method,
        "ece": calibration_error(probabilities, label),
        "ece_floor": _floor(probabilities),
        "nll": negative_log_likelihood(probabilities, label),
        "brier": float(np.mean(np.sum((probabilities - truth) ** 2, axis=1))),
        "accuracy": float(np.mean(probabilities.argmax(1) == label)),
        "temperature": more.get("temperature"),
    }


def _floor(probabilities: npt.NDArray) -> float:
    """Mean calibration error of labels drawn from the probabilities: that of a tagger that is right about itself."""
    random = np.random.default_rng(17)
    steps = probabilities.cumsum(1)
    drawn: list[float] = []
    for _ in range(FLOOR_DRAWS):
        label = (random.random((len(steps), 1)) * steps[:, -1:] > steps).sum(1)
        drawn.append(calibration_error(probabilities, label))
    return float(np.mean(drawn))
