"""Asking trained networks: class probabilities, embeddings, and the rows of the rejection table."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jettag import __version__
from jettag.data.card import DataCard, load_card
from jettag.data.jets import Jets, JetTable, Table
from jettag.data.once import once
from jettag.data.opening import expand_data, open_jets, origin_names, split_of
from jettag.data.read import InputFile, read_table
from jettag.data.shard_table import ShardTable
from jettag.errors import CheckpointError
from jettag.evaluation.flavour import FlavourScores
from jettag.evaluation.rows import EFFICIENCIES, Row, make_rows
from jettag.evaluation.scores import Scores, name_runs, refuse_classes
from jettag.models.particle_transformer import ParticleTransformer
from jettag.objectives import Flavour
from jettag.runs.flavour_asking import ask
from jettag.runs.flavour_data import check_origins, flavour_card
from jettag.runs.flavour_judging import (
    NOTHING_MORE,
    Asking,
    add_up_scores,
    extra_columns,
    flavour_scores,
    impact_of,
    refuse_unknown,
    unjudged,
)
from jettag.runs.flavour_predicting import predict_flavour
from jettag.runs.seen import seen_in_training
from jettag.runs.weak_judging import Question, ask_weak, is_weak
from jettag.training import Tagger, load_backbone, load_tagger
from jettag.training.restore import features_of

__all__ = ["Judgement", "apply_to_all", "embed", "embeddings", "evaluate", "predict", "probabilities"]

BATCH_SIZE = 512  # jets; inference holds no gradients
Progress = Callable[[int], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Judgement:
    """Rows of the rejection table, the scores behind them, what the person should know, and the flavour taggers."""

    rows: list[Row]
    scores: list[Scores]
    notes: list[str]
    flavour: list[FlavourScores] = field(default_factory=list)


@torch.inference_mode()
def apply_to_all(
    function: Callable[[Jets], Tensor], table: Table, device: torch.device, on_progress: Progress | None
) -> npt.NDArray[np.float32]:
    """``function`` of every jet, (J, ...), in the table's order."""
    result: npt.NDArray[np.float32] | None = None
    done = 0
    for index, values in _one_behind((index, function(jets)) for index, jets in once(table, BATCH_SIZE, device)):
        if result is None:
            result = np.empty((len(table), *values.shape[1:]), dtype=np.float32)
        result[index] = values.float().cpu().numpy()
        done += len(index)
        if on_progress:
            on_progress(done)
    return np.empty((0, 0), dtype=np.float32) if result is None else result


def _one_behind(each: Iterable[T]) -> Iterator[T]:
    """The same, each once the next has begun: an accelerator then works while the host reads what it did before."""
    waiting: list[T] = []
    for one in each:
        yield from waiting
        waiting = [one]
    yield from waiting


def probabilities(
    tagger: Tagger, table: Table, device: torch.device, on_progress: Progress | None = None
) -> npt.NDArray[np.float64]:
    """(J, C) class probabilities; the softmax is taken in float64, where good scores do not saturate at one."""
    logits = apply_to_all(tagger.model.to(device).logits, table, device, on_progress).astype(np.float64)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    normalised: npt.NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return normalised


def embeddings(
    backbone: ParticleTransformer, table: Table, device: torch.device, on_progress: Progress | None = None
) -> npt.NDArray[np.float32]:
    """(J, S D) jet embeddings by a backbone in evaluation mode."""
    return apply_to_all(lambda jets: backbone(jets).summary, table, device, on_progress)


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
    flavour taggers also everything that `jettag.evaluation.flavour` judges is kept. A run of two mixed samples is
    judged on these or on true classes, see `jettag.runs.weak_judging`.

    Raises:
        CheckpointError: a run is damaged or has no classes.
        DataError: the files cannot be read, or hold no jet of a class that is needed.
        UsageError: a class that does not exist.
    """
    inputs = expand_data(files)
    scores, rows, notes, flavour = [], [], [], []
    tables: dict[tuple[Any, ...], Table] = {}
    done = 0
    taggers = {name: load_tagger(run) for name, run in zip(name_runs(runs), runs, strict=True)}
    questions: dict[str, Question] = {}
    for name, tagger in taggers.items():  # before anything takes time
        known = refuse_unknown(asking, tagger.class_names)
        if is_weak(tagger):
            questions[name] = ask_weak(name, tagger, inputs, _card(card, tagger.run), signal, background)
            notes.append(questions[name].note)
        else:
            refuse_classes(name, known, signal, background)
            questions[name] = Question(tagger.class_names, signal, background)
    for name, tagger in taggers.items():
        chosen = _card(card, tagger.run)
        if isinstance(tagger.model, Flavour) and split_of(inputs[0], "test") is None:
            chosen = flavour_card(chosen, tagger.model.recipe.scheme, inputs)
        extra = extra_columns(tagger, inputs, chosen)
        question = questions[name]
        key = (chosen.model_dump_json(), tagger.features, question.classes, tagger.max_constituents, extra)
        if key not in tables:
            table = open_jets(
                inputs,
                chosen,
                split="test",
                features=tagger.features,
                labels=True,
                classes=question.classes,
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
        said = asked.probabilities if asked else probabilities(tagger, table, device, report)
        judged = Scores(
            run=name,
            class_names=question.classes,
            probabilities=said[:, :1] if question.by_sample else said,
            label=table.label,
            seed=facts.get("seed"),
            parameters=facts.get("parameters"),
            n_train=facts.get("n_train"),
            rounded=torch.is_autocast_enabled(device.type),
        )
        done += len(table)
        if asking.scheme is not None:
            judged = add_up_scores(judged, asking.scheme)
        if asked is not None:
            flavour.append(flavour_scores(tagger, judged, table, asked, asking))
            notes += unjudged(name, flavour[-1], asked, table)
        scores.append(judged)
        rows += make_rows(judged, signal=question.signal, background=question.background, efficiencies=efficiencies)
    return Judgement(rows=rows, scores=scores, notes=list(dict.fromkeys(notes)), flavour=flavour)


def predict(
    run: Path,
    files: Sequence[str],
    *,
    card: str | None = None,
    ftag: bool = False,
    device: torch.device,
    on_progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> tuple[list[dict[str, ak.Array]], dict[str, str]]:
    """Class probabilities of every jet, file by file, in the order of the files; of shards, in theirs.

    Args:
        run: of a tagger.
        files: or prepared directories, of which the test split is taken where none is named.
        card: instead of the one the run was trained with.
        device: to compute on.
        on_progress: called with the number of jets done.
        note: told whether the run was trained on these jets.
        ftag: of a flavour tagger the names of ATLAS's tools.

    Returns:
        One set of columns for each input: ``score_CLASS`` (NaN where a jet of a file has no constituent, so that row i
        is jet i of the file), ``file`` (its index in the fact ``files``) and ``entry``, the row there; and the facts to
        write beside them. A flavour tagger gives more, as `jettag.runs.flavour_predicting` says, with ``ftag`` under
        the names of ATLAS's tools.
    """
    tagger = load_tagger(run)
    inputs = expand_data(files)
    for text in seen_in_training("the run", tagger.facts, inputs) if note else ():
        assert note is not None
        note(text)
    if isinstance(tagger.model, Flavour):
        known = _card(card, tagger.run)
        return predict_flavour(tagger, files, known, ftag=ftag, device=device, on_progress=on_progress)
    names = [f"score_{name}" for name in tagger.class_names]

    def columns(table: Table, report: Progress) -> dict[str, npt.NDArray]:
        values = probabilities(tagger, table, device, report).astype(np.float32)
        return {name: values[:, i] for i, name in enumerate(names)}

    used = _card(card, tagger.run)
    chunks = list(_by_file(inputs, used, tagger.features, tagger.max_constituents, columns, on_progress))
    return chunks, _facts(run, inputs) | {"class_names": ",".join(tagger.class_names)}


def _facts(run: Path, inputs: Sequence[InputFile]) -> dict[str, str]:
    """What is written beside scores and embeddings."""
    return {"jettag": __version__, "run": str(run.resolve()), "files": json.dumps(origin_names(inputs))}


def embed(
    run: Path,
    files: Sequence[str],
    *,
    card: str | None = None,
    device: torch.device,
    on_progress: Progress | None = None,
) -> tuple[list[dict[str, ak.Array]], dict[str, str]]:
    """Jet embeddings of every jet: ``embedding`` (D numbers a jet), ``file`` and ``entry``, as `predict` has them."""
    features, feature_names, max_constituents, root = features_of(run)
    backbone, _ = load_backbone(run, feature_names)
    backbone.to(device).eval()
    inputs = expand_data(files)

    def columns(table: Table, report: Progress) -> dict[str, npt.NDArray]:
        return {"embedding": embeddings(backbone, table, device, report)}

    chunks = list(_by_file(inputs, _card(card, root), features, max_constituents, columns, on_progress))
    return chunks, _facts(run, inputs) | {"dim": str(backbone.summary_dim)}


def _by_file(
    inputs: Sequence[InputFile],
    card: DataCard,
    features: str,
    max_constituents: int,
    columns: Callable[[Table, Progress], Mapping[str, npt.NDArray]],
    on_progress: Progress | None,
) -> Iterator[dict[str, ak.Array]]:
    """``columns`` of each input's jets: put back to a file's own rows, or in the order of the shards."""
    done = number = 0
    for item in inputs:
        wanted: dict[str, Any] = {"features": features, "labels": False, "max_constituents": max_constituents}
        if split_of(item, "test"):
            table: Table = open_jets([item], card, split="test", **wanted)
        else:
            table = read_table([item], card, jet_columns=("entry",), **wanted)
        base = done

        def report(count: int, base: int = base) -> None:
            if on_progress:
                on_progress(base + count)

        found = columns(table, report)
        done += len(table)
        if isinstance(table, ShardTable):
            yield _rows_of_shards(found, table, number)
        else:
            assert isinstance(table, JetTable)  # the only other one
            yield _rows_of_file(found, table, number)
        number += len(origin_names([item]))


def _rows_of_file(found: Mapping[str, npt.NDArray], table: JetTable, number: int) -> dict[str, ak.Array]:
    """A row for every entry of the file, NaN where it gave no jet."""
    rows: dict[str, ak.Array] = {}
    for name, values in found.items():
        full = np.full((table.num_entries, *values.shape[1:]), np.nan, dtype=np.float32)
        full[table.jet["entry"]] = values
        rows[name] = ak.Array(full)
    rows["file"] = ak.Array(np.full(table.num_entries, number, dtype=np.int32))
    rows["entry"] = ak.Array(np.arange(table.num_entries, dtype=np.int64))
    return rows


def _rows_of_shards(found: Mapping[str, npt.NDArray], table: ShardTable, first: int) -> dict[str, ak.Array]:
    """A row for every jet, with the file and entry that it was prepared from."""
    scanned = [jet for _, jet in table.scan(("file", "entry"))]
    file = np.concatenate([jet["file"] for jet in scanned]) + first
    entry = np.concatenate([jet["entry"] for jet in scanned])
    rows = {name: ak.Array(values) for name, values in found.items()}
    return rows | {"file": ak.Array(file.astype(np.int32)), "entry": ak.Array(entry.astype(np.int64))}
