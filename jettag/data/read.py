"""From files to jets: a `JetTable` for training and evaluation, or awkward records for a notebook.

Memory is the result, an eighth of it while it grows, and one chunk of a file.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import awkward as ak
import numpy as np
import numpy.typing as npt
import vector

from jettag.data.binding import Binding, bind, locate
from jettag.data.card import Constituents, DataCard, load_card
from jettag.data.columns import make_piece
from jettag.data.features import feature_set
from jettag.data.inputs import InputFile, expand_inputs
from jettag.data.jets import JetTable
from jettag.data.labels import OTHER, FileLabels, class_names, file_labels
from jettag.data.quotas import Quota, share
from jettag.data.room import refuse_too_many
from jettag.data.source import Source, chunks, open_source
from jettag.data.table import TableBuilder
from jettag.errors import DataError

__all__ = [
    "InputFile",
    "Job",
    "count_classes",
    "expand_inputs",
    "file_chunks",
    "plan_files",
    "read_events",
    "read_table",
    "stored_in_all",
]

MOMENTUM = ("px", "py", "pz", "energy", "pt", "eta", "phi", "mass")  # fields that a vector record has by itself
ENTRY, FILE = "entry", "file"  # the jet columns that no file stores
KEPT = 16  # files that stay open between being looked at and being read; opening one costs what 2,000 jets cost
UNLABELLED = 0  # label of every jet while none is asked for


@dataclass(frozen=True)
class Job:
    """One file with what to read from it."""

    file: InputFile
    entries: int
    binding: Binding
    labels: FileLabels | None
    source: Source | None = field(default=None, repr=False, compare=False)  # where it is open already


def read_table(
    inputs: Sequence[InputFile],
    card: DataCard,
    *,
    features: str,
    labels: bool,
    classes: Sequence[str] | None = None,
    max_constituents: int = 128,
    max_jets: int | None = None,
    jet_columns: Sequence[str] = (),
    constituent_columns: Sequence[str] = (),
    on_progress: Callable[[int], None] | None = None,
) -> JetTable:
    """Jets of all files in one table.

    Only branches that the features, labels and jet columns need are read; every file is checked for them before the
    first jet is. Constituents are sorted by descending pT and cut to ``max_constituents``; jets without any are left
    out. Momenta are in GeV, lengths in mm, angles in rad.

    Args:
        inputs: from `expand_inputs`.
        card: from `load_card`.
        features: name of a set in `FEATURE_SETS`.
        labels: False leaves label branches alone, and the table has none.
        classes: keep these only; ``label`` indexes into them. Default: the card's, or the files'.
        max_constituents: constituents kept in a jet.
        max_jets: at most so many, as equally as possible from each class (where labels are asked for or files carry a
            class) and within a class from each file; from each file the first ones.
        jet_columns: names under ``jet`` on the card; pt, eta, phi, energy, mass, nparticles are summed where absent.
            ``entry`` is the jet's row in its file, ``file`` the file's place among the inputs.
        constituent_columns: names under ``constituents`` on the card to keep beside the features; ``slot`` is the
            constituent's place in its jet as the file has it.
        on_progress: called with the number of jets read so far.

    Raises:
        DataError: a file is missing, damaged, lacks a branch or holds what cannot be right, or no jet is left.
        CardError: the card has no column for what is wanted.
        RecipeError: no feature set of that name.
        ResourceError: the package for a kind of file is not installed, or memory cannot hold the jets.
    """
    wanted = feature_set(features)
    names = class_names(card, inputs, classes) if labels else ()
    stored = tuple(name for name in jet_columns if name not in (ENTRY, FILE))
    fields = tuple(dict.fromkeys((*wanted.fields, *constituent_columns)))
    with ExitStack() as held:
        jobs, notes = plan_files(inputs, card, fields, stored, names if labels else None, held)
        quotas = _quotas(jobs, card, max_jets)
        builder = TableBuilder(wanted, labelled=labels, constituent_columns=constituent_columns)
        builder.count(notes)
        done, total = 0, sum(job.entries for job in jobs)
        if max_jets is not None:
            total = min(total, max_jets)
        for place, (job, quota) in enumerate(zip(jobs, quotas, strict=True)):
            branches = (*job.binding.branches, *(job.labels.branches if job.labels else ()))
            for entries, chunk in file_chunks(job, card, tuple(dict.fromkeys(branches)), quota):
                label = job.labels(chunk, entries) if job.labels else np.full(len(entries), UNLABELLED)
                if others := int(np.count_nonzero(label == OTHER)):
                    builder.count({"other_classes": others})
                taken = quota.take(label) if quota else label != OTHER
                if taken.any():
                    if not taken.all():
                        chunk = {branch: column[taken] for branch, column in chunk.items()}
                    piece = make_piece(chunk, job.binding, entries[taken], max_constituents)
                    if ENTRY in jet_columns:
                        piece.jet[ENTRY] = entries[taken][piece.kept]
                    if FILE in jet_columns:
                        piece.jet[FILE] = np.full(len(piece.counts), place)
                    share_read = min((done + len(entries)) / total, 1.0)
                    builder.add(piece, label[taken][piece.kept] if labels else None, share_read)
                    refuse_too_many(builder.num_bytes, share_read, _where(inputs))
                done += len(entries)
                if on_progress:
                    on_progress(done)
    return builder.finish(names, read=done, jet_columns=jet_columns, where=_where(inputs))


def stored_in_all(
    inputs: Sequence[InputFile],
    card: DataCard,
    columns: Sequence[str],
    owner: Literal["constituents", "jet"] = "jet",
) -> tuple[str, ...]:
    """Those of the ``columns`` that the card knows and every file has.

    Raises:
        DataError: a file is missing or damaged.
    """
    found = [name for name in columns if (name in card.jet if owner == "jet" else card.column(owner, name))]
    for file in inputs if found else ():
        with open_source(file, card.tree, card.join) as source:
            found = [name for name in found if locate(card, source.names, owner, name)]
    return tuple(found)


def _where(inputs: Sequence[InputFile]) -> str:
    more = f" and {len(inputs) - 1} more files" if len(inputs) > 1 else ""
    return f"{inputs[0].address}{more}"


def plan_files(
    inputs: Sequence[InputFile],
    card: DataCard,
    fields: tuple[str, ...],
    jet_columns: tuple[str, ...],
    names: tuple[str, ...] | None,
    held: ExitStack | None = None,
) -> tuple[list[Job], dict[str, int]]:
    """Look into every file, so that the hundredth without a branch is found before the first is read.

    With ``held`` the first `KEPT` stay open until it is closed, and are not opened again.
    """
    if not inputs:
        raise DataError("no input files given", do="give paths, globs or CLASS:GLOB")
    jobs: list[Job] = []
    notes = {"repeated_files": sum(file.repeats for file in inputs), "files_with_another_tree": 0, "empty_files": 0}
    for file in inputs:
        with ExitStack() as own:
            kept = held if held is not None and len(jobs) < KEPT else None
            source = (kept or own).enter_context(open_source(file, card.tree, card.join))
            binding = bind(card, source, file.address, fields=fields, jet_columns=jet_columns)
            labels = None if names is None else file_labels(card, source, file, names)
            notes["files_with_another_tree"] += bool(source.note)
            notes["empty_files"] += not source.num_entries
            jobs.append(Job(file, source.num_entries, binding, labels, source if kept else None))
    return jobs, {name: count for name, count in notes.items() if count}


def _quotas(jobs: Sequence[Job], card: DataCard, max_jets: int | None) -> list[Quota | None]:
    """How many jets of each class to take from each file; None takes all."""
    if max_jets is None:
        return [None] * len(jobs)
    available: list[dict[Hashable, int]] = []
    for job in jobs:
        if job.labels is None:
            # Without labels the files' own classes, where they have any, are what is balanced.
            available.append({job.file.class_name: job.entries})
            continue
        available.append(dict(_count(job, job.labels, card)))
    shares = share(max_jets, available)
    if jobs[0].labels is None:
        return [Quota({UNLABELLED: sum(part.values())}) for part in shares]
    return [Quota({int(str(group)): count for group, count in part.items()}) for part in shares]


def _count(job: Job, labels: FileLabels, card: DataCard) -> Counter[Hashable]:
    """Jets of each label in a file, of which only the label branches are read."""
    found: Counter[Hashable] = Counter()
    if labels.branches:
        for entries, chunk in file_chunks(job, card, labels.branches):
            found.update(labels(chunk, entries).tolist())
    elif job.entries:
        found[int(labels({}, np.zeros(1, dtype=np.int64))[0])] = job.entries
    found.pop(OTHER, None)
    return found


def count_classes(inputs: Sequence[InputFile], card: DataCard, names: Sequence[str]) -> dict[str, int]:
    """Jets of each of these classes in the files, by name, of which only the label branches are read.

    A class whose branch a file lacks has no jet there.

    Raises:
        DataError: as `read_table`; or a file has no label at all.
    """
    names = class_names(card, inputs, names)
    total: Counter[Hashable] = Counter()
    for file in inputs:
        with open_source(file, card.tree, card.join) as source:
            binding = bind(card, source, file.address, fields=(), jet_columns=())
            labels = file_labels(card, source, file, names, every=False)
            total += _count(Job(file, source.num_entries, binding, labels, source), labels, card)
    return {name: total[place] for place, name in enumerate(names)}


def file_chunks(
    job: Job, card: DataCard, branches: Sequence[str], quota: Quota | None = None
) -> Iterator[tuple[npt.NDArray[np.int64], dict[str, ak.Array]]]:
    """(entry numbers, columns) of a file, until the quota is filled."""
    if not job.entries or (quota is not None and quota.full):
        return
    with ExitStack() as own:
        source = job.source or own.enter_context(open_source(job.file, card.tree, card.join))
        begin = 0
        for chunk in chunks(source, branches, job.binding.where):
            stop = begin + len(chunk[branches[0]])
            yield np.arange(begin, stop), chunk
            begin = stop
            if quota is not None and quota.full:
                return


def read_events(path: str | Path, card: DataCard | str, *, max_jets: int | None = None) -> ak.Array:
    """Everything that a card knows and a file has, as awkward records for a notebook.

    Args:
        path: one file.
        card: a card, or the name or path of one.
        max_jets: the first so many.

    Returns:
        Records with the card's jet fields and ``constituents``, `vector` Momentum4D records with the card's
        constituent fields, in GeV, mm, rad, in the file's order: ``jets.constituents.pt`` works.

    Raises:
        DataError: the file is damaged, lacks the momentum, or holds what cannot be right.

    Example:
        >>> jets = read_events("jets.root", "generated")  # doctest: +SKIP
        >>> jets.constituents[jets.constituents.pt > 1].d0  # doctest: +SKIP
    """
    vector.register_awkward()
    card = card if isinstance(card, DataCard) else load_card(card)
    file = expand_inputs([path])[0]
    with open_source(file, card.tree, card.join) as source:
        fields = [f for f in Constituents.model_fields if locate(card, source.names, "constituents", f)]
        extra = tuple(field for field in fields if field not in MOMENTUM)
        columns = tuple(field for field in card.jet if locate(card, source.names, "jet", field))
        binding = bind(card, source, file.address, fields=extra, jet_columns=columns)
        pieces: list[ak.Array] = []
        for chunk in chunks(source, binding.branches, binding.where, max_jets):
            pieces.append(_records(chunk, binding, extra, sum(len(piece) for piece in pieces)))
    if not pieces:
        raise DataError("no jet", where=binding.where)
    return ak.concatenate(pieces)


def _records(chunk: dict[str, ak.Array], binding: Binding, extra: Sequence[str], begin: int) -> ak.Array:
    length = len(next(iter(chunk.values())))
    piece = make_piece(chunk, binding, np.arange(begin, begin + length), None, arrange=False)
    names = ("px", "py", "pz", "energy", *extra)
    parts = {name: ak.unflatten(piece.columns[name], piece.counts) for name in names}
    return ak.zip({**piece.jet, "constituents": ak.zip(parts, with_name="Momentum4D")}, depth_limit=1)
