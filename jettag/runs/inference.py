"""Asking trained networks: class probabilities, embeddings, and the rows of the rejection table."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jettag import __version__
from jettag.data.card import DataCard, load_card
from jettag.data.jets import Jets, Table
from jettag.data.loader import once
from jettag.data.opening import expand_data, open_jets
from jettag.data.read import InputFile, expand_inputs, read_table
from jettag.errors import CheckpointError
from jettag.evaluation.flavour import FlavourScores
from jettag.evaluation.rows import EFFICIENCIES, Row, make_rows
from jettag.evaluation.scores import Scores, name_runs
from jettag.objectives import Flavour
from jettag.runs.flavour_asking import ask
from jettag.runs.flavour_data import check_origins, flavour_card
from jettag.runs.flavour_judging import NOTHING_MORE, Asking, add_up_scores, extra_columns, flavour_scores, impact_of
from jettag.runs.flavour_predicting import predict_flavour
from jettag.training import Tagger, load_backbone, load_tagger
from jettag.training.restore import features_of
from jettag.training.run_directory import file_sha256, read_run

__all__ = ["Judgement", "embed", "evaluate", "predict", "probabilities", "seen_in_training"]

BATCH_SIZE = 512  # jets; inference holds no gradients
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Judgement:
    """Rows of the rejection table, the scores behind them, what the person should know, and the flavour taggers."""

    rows: list[Row]
    scores: list[Scores]
    notes: list[str]
    flavour: list[FlavourScores] = field(default_factory=list)


@torch.inference_mode()
def _apply(
    function: Callable[[Jets], Tensor], table: Table, device: torch.device, on_progress: Progress | None
) -> npt.NDArray[np.float32]:
    """``function`` of every jet, (J, ...), in the table's order."""
    result: npt.NDArray[np.float32] | None = None
    done = 0
    for index, jets in once(table, BATCH_SIZE):
        values = function(jets.to(device)).float().cpu().numpy()
        if result is None:
            result = np.empty((len(table), *values.shape[1:]), dtype=np.float32)
        result[index] = values
        done += len(index)
        if on_progress:
            on_progress(done)
    return np.empty((0, 0), dtype=np.float32) if result is None else result


def probabilities(
    tagger: Tagger, table: Table, device: torch.device, on_progress: Progress | None = None
) -> npt.NDArray[np.float64]:
    """(J, C) class probabilities; the softmax is taken in float64, where good scores do not saturate at one."""
    logits = _apply(tagger.model.to(device).logits, table, device, on_progress).astype(np.float64)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    normalised: npt.NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return normalised


def _card(name: str | None, run: Path) -> DataCard:
    """The card asked for, or the one the run was trained with.

    Raises:
        CheckpointError: neither.
    """
    if name is None and not (run / "card.yaml").is_file():
        raise CheckpointError("the run has no card.yaml", where=run, do="name a card with --card")
    return load_card(name or run / "card.yaml")


def evaluate(
    runs: Sequence[Path],
    files: Sequence[str],
    *,
    card: str | None = None,
    signal: Sequence[str] | None = None,
    background: Sequence[str] | None = None,
    efficiencies: Sequence[float] = EFFICIENCIES,
    max_jets: int | None = None,
    asking: Asking = NOTHING_MORE,
    device: torch.device,
    on_progress: Progress | None = None,
) -> Judgement:
    """Judge one or several runs on the same files.

    Each run reads the files with its own features and the card it was trained with, unless ``card`` names another. Of
    flavour taggers also everything that `jettag.evaluation.flavour` judges is kept.

    Raises:
        CheckpointError: a run is damaged or has no classes.
        DataError: the files cannot be read, or hold no jet of a class that is needed.
        UsageError: a class that does not exist.
    """
    inputs = expand_data(files)
    scores, rows, notes, flavour = [], [], [], []
    tables: dict[tuple[Any, ...], Table] = {}
    done = 0
    for name, run in zip(name_runs(runs), runs, strict=True):
        tagger = load_tagger(run)
        chosen = _card(card, tagger.run)
        if isinstance(tagger.model, Flavour):
            chosen = flavour_card(chosen, tagger.model.recipe.scheme)
        extra = extra_columns(tagger, inputs, chosen)
        key = (chosen.model_dump_json(), tagger.features, tagger.class_names, tagger.max_constituents, extra)
        if key not in tables:
            table = open_jets(
                inputs,
                chosen,
                split="test",
                features=tagger.features,
                labels=True,
                classes=tagger.class_names,
                max_constituents=tagger.max_constituents,
                max_jets=max_jets,
                jet_columns=extra.jet,
                constituent_columns=extra.constituents,
            )
            check_origins(table)
            tables[key] = table = impact_of(table, tagger.features, asking.impact)
            notes += [f"{count} {what.replace('_', ' ')}" for what, count in table.notes.items() if count]
        table = tables[key]
        notes += seen_in_training(name, tagger.facts, inputs)
        base = done

        def report(count: int, base: int = base) -> None:
            if on_progress:
                on_progress(base + count)

        facts = tagger.facts
        assert table.label is not None  # labels=True
        asked = ask(tagger, table, device, report) if isinstance(tagger.model, Flavour) else None
        judged = Scores(
            run=name,
            class_names=tagger.class_names,
            probabilities=asked.probabilities if asked else probabilities(tagger, table, device, report),
            label=table.label,
            seed=facts.get("seed"),
            parameters=facts.get("parameters"),
            n_train=facts.get("n_train"),
        )
        done += len(table)
        if asking.scheme is not None:
            judged = add_up_scores(judged, asking.scheme)
        if asked is not None:
            flavour.append(flavour_scores(tagger, judged, table, asked, asking))
        scores.append(judged)
        rows += make_rows(judged, signal=signal, background=background, efficiencies=efficiencies)
    return Judgement(rows=rows, scores=scores, notes=list(dict.fromkeys(notes)), flavour=flavour)


def seen_in_training(name: str, facts: Mapping[str, Any], inputs: Sequence[InputFile]) -> list[str]:
    """A warning for each file to be judged on whose content the run, or the backbone under it, was trained on."""
    known = facts.get("inputs", [])
    sizes = {item["bytes"] for item in known}
    content = {item["sha256"]: item.get("role", "train") for item in known}
    notes = []
    for item in inputs:
        if item.url is None and item.path.stat().st_size in sizes:
            role = content.get(file_sha256(item.path))
            if role == "train":
                notes.append(f"{name} was trained on the jets of {item.path}: the numbers flatter it")
            elif role == "val":
                notes.append(f"{name} was chosen by its loss on {item.path}: the numbers flatter it a little")
    source = facts.get("pretrained")
    if source and (Path(source) / "run.json").is_file():
        notes += seen_in_training(f"the backbone of {name}", read_run(Path(source)), inputs)
    return notes


def predict(
    run: Path,
    files: Sequence[str],
    *,
    card: str | None = None,
    ftag: bool = False,
    device: torch.device,
    on_progress: Progress | None = None,
) -> tuple[list[dict[str, ak.Array]], dict[str, str]]:
    """Class probabilities of every jet, file by file, in the order of the files.

    Returns:
        One set of columns for each file: ``score_CLASS`` (NaN where a jet has no constituent, so that row i is jet i of
        the file), ``file`` (its index) and ``entry``; and the facts to write beside them. A flavour tagger gives more,
        as `jettag.runs.flavour_predicting` says, with ``ftag`` under the names of ATLAS's tools.
    """
    tagger = load_tagger(run)
    if isinstance(tagger.model, Flavour):
        known = _card(card, tagger.run)
        return predict_flavour(tagger, files, known, ftag=ftag, device=device, on_progress=on_progress)
    names = [f"score_{name}" for name in tagger.class_names]

    def columns(table: Table, report: Progress) -> dict[str, npt.NDArray]:
        values = probabilities(tagger, table, device, report).astype(np.float32)
        return {name: values[:, i] for i, name in enumerate(names)}

    used = _card(card, tagger.run)
    chunks = list(_by_file(files, used, tagger.features, tagger.max_constituents, columns, on_progress))
    return chunks, {"jettag": __version__, "run": str(run.resolve()), "class_names": ",".join(tagger.class_names)}


def embed(
    run: Path,
    files: Sequence[str],
    *,
    card: str | None = None,
    device: torch.device,
    on_progress: Progress | None = None,
) -> tuple[list[dict[str, ak.Array]], dict[str, str]]:
    """Jet embeddings of every jet, file by file: ``embedding`` (D numbers a jet), ``file`` and ``entry``."""
    features, feature_names, max_constituents, root = features_of(run)
    backbone, _ = load_backbone(run, feature_names)
    backbone.to(device).eval()

    def columns(table: Table, report: Progress) -> dict[str, npt.NDArray]:
        return {"embedding": _apply(lambda jets: backbone(jets).jet, table, device, report)}

    chunks = list(_by_file(files, _card(card, root), features, max_constituents, columns, on_progress))
    return chunks, {"jettag": __version__, "run": str(run.resolve()), "dim": str(backbone.dim)}


def _by_file(
    files: Sequence[str],
    card: DataCard,
    features: str,
    max_constituents: int,
    columns: Callable[[Table, Progress], Mapping[str, npt.NDArray]],
    on_progress: Progress | None,
) -> Iterator[dict[str, ak.Array]]:
    """``columns`` of each file's jets, put back to the file's own rows."""
    done = 0
    for number, item in enumerate(expand_inputs(files)):
        table = read_table(
            [item], card, features=features, labels=False, max_constituents=max_constituents, jet_columns=("entry",)
        )
        base = done

        def report(count: int, base: int = base) -> None:
            if on_progress:
                on_progress(base + count)

        found = columns(table, report)
        rows: dict[str, ak.Array] = {}
        for name, values in found.items():
            full = np.full((table.num_entries, *values.shape[1:]), np.nan, dtype=np.float32)
            full[table.jet["entry"]] = values
            rows[name] = ak.Array(full)
        rows["file"] = ak.Array(np.full(table.num_entries, number, dtype=np.int32))
        rows["entry"] = ak.Array(np.arange(table.num_entries, dtype=np.int64))
        done += len(table)
        yield rows
