"""Files of any card to one file of JetClass's schema, which weaver-core and every other JetClass code reads."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from jettag.data.binding import SUMMED, locate
from jettag.data.card import Constituents, DataCard, load_card
from jettag.data.columns import make_piece
from jettag.data.inputs import InputFile
from jettag.data.labels import OTHER, class_names
from jettag.data.read import MOMENTUM, Job, file_chunks, plan_files, stored_in_all
from jettag.data.root import TreeKind, write_tree
from jettag.data.source import open_source
from jettag.errors import UsageError

__all__ = ["Converted", "convert"]

SCHEMA = "generated"  # the card that names the branches
KINDS: dict[str, TreeKind] = {".root": "ttree", ".parquet": "parquet"}
INTEGERS = ("charge", "origin", "vertex")


@dataclass(frozen=True)
class Converted:
    """What was written: jets, the branches, and what was left out, counted."""

    jets: int
    branches: tuple[str, ...]
    notes: dict[str, int]


def convert(
    inputs: Sequence[InputFile],
    card: DataCard,
    out: Path,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> Converted:
    """Write the jets of all files, in order, in GeV, mm and rad, with JetClass's names and its sign of d0.

    Constituents are in descending pT; jets without any are left out and counted. What not every file has is left out;
    deta, dphi and the jet's momentum are derived where a file has them not. Memory is one chunk.

    Args:
        inputs: from `expand_inputs`.
        card: of the files.
        out: a name that ends in .root or .parquet.
        on_progress: called with the number of jets read so far.

    Raises:
        UsageError: the name ends in something else, or is one of the files.
        DataError: a file is missing, damaged, or holds what cannot be right.
        ResourceError: the disk is full, or the package for Parquet is not installed.
    """
    if out.suffix not in KINDS:
        raise UsageError(f"--out {out} is of no kind that can be written", do="end it in .root or .parquet")
    if any(file.path.resolve() == out.resolve() for file in inputs):
        raise UsageError(f"--out {out} is one of the files to read", do="choose another name")
    labelled = bool(card.labels or any(file.class_name for file in inputs))
    names = class_names(card, inputs, None) if labelled else ()
    stored = stored_in_all(inputs, card, tuple(name for name in card.jet if name in load_card(SCHEMA).jet))
    columns = tuple(dict.fromkeys((*SUMMED, *stored)))
    jobs, notes = plan_files(inputs, card, (*_fields(inputs, card), "deta", "dphi"), columns, names or None)
    counted = Counter(notes)
    branches: dict[str, None] = {}

    def chunks() -> Iterator[dict[str, Any]]:
        done = 0
        for job in jobs:
            for read, chunk in _converted(job, card, names, counted):
                done += read
                if on_progress:
                    on_progress(done)
                if chunk:
                    branches.update(dict.fromkeys(chunk))
                    yield chunk

    metadata = {"converted_from": ", ".join(file.address for file in inputs), "card": card.name}
    jets = write_tree(out, "tree", chunks(), metadata=metadata, kind=KINDS[out.suffix])
    return Converted(jets, tuple(branches), {name: count for name, count in counted.items() if count})


def _fields(inputs: Sequence[InputFile], card: DataCard) -> list[str]:
    """Constituent fields beyond the momentum that every file has."""
    found = [name for name in Constituents.model_fields if name not in (*MOMENTUM, "deta", "dphi")]
    for file in inputs:
        with open_source(file, card.tree, card.join) as source:
            found = [name for name in found if locate(card, source.names, "constituents", name)]
    return found


def _converted(
    job: Job, card: DataCard, names: tuple[str, ...], counted: Counter[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(jets read, columns by branch name) of each chunk; no column where no jet is left."""
    schema = load_card(SCHEMA)
    branches = dict.fromkeys((*job.binding.branches, *(job.labels.branches if job.labels else ())))
    for entries, chunk in file_chunks(job, card, tuple(branches)):
        read = len(entries)
        label = job.labels(chunk, entries) if job.labels else np.zeros(read, dtype=np.int64)
        if others := int(np.count_nonzero(label == OTHER)):
            counted["other_classes"] += others
            chunk = {branch: column[label != OTHER] for branch, column in chunk.items()}
            entries, label = entries[label != OTHER], label[label != OTHER]
        piece = make_piece(chunk, job.binding, entries, None)
        counted.update(piece.notes)
        if not len(piece.counts):
            yield read, {}
            continue
        columns: dict[str, Any] = {}
        for field in ("px", "py", "pz", "energy", *job.binding.fields):
            column = schema.column("constituents", field)
            if column is None:
                continue
            sign = -1 if column.sign == -1 else 1
            columns[column.branches[0]] = ak.unflatten(_typed(field, piece.columns[field]) * sign, piece.counts)
        for name, values in piece.jet.items():
            target = schema.column("jet", name)
            if target is not None:
                columns[target.branches[0]] = values.astype(np.int64 if values.dtype.kind in "biu" else np.float32)
        columns |= {f"label_{name}": label[piece.kept] == number for number, name in enumerate(names)}
        yield read, columns


def _typed(field: str, values: npt.NDArray) -> npt.NDArray:
    """In the type that JetClass's schema has: the same for every file."""
    return values.astype(np.int32 if field in INTEGERS else np.float32)
