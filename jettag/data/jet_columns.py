"""Jet-level columns of files, without their constituents: what trees on a few features need.

Where a file lacks one that the sum of its constituents gives, such as the mass in JetClass, these are read and summed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import awkward as ak
import numpy as np
import numpy.typing as npt

from jettag.data.binding import SUMMED, Binding, bind, locate
from jettag.data.card import DataCard
from jettag.data.columns import flat, make_piece
from jettag.data.inputs import InputFile
from jettag.data.labels import file_labels
from jettag.data.source import Source, chunks, open_source
from jettag.errors import CardError, DataError, nearest

__all__ = ["EMBEDDING", "JetColumns", "read_jet_columns"]

EMBEDDING = "embedding"  # the column of `jettag embed`: one vector a jet, on no card


@dataclass(frozen=True)
class JetColumns:
    """Columns of jets, in the order of the files.

    Attributes:
        values: name to (J,), or (J, D) of ``embedding``, in GeV, mm, rad.
        label: (J,) index into ``class_names``; `jettag.data.labels.OTHER` where the class is none of them.
        class_names: asked for.
    """

    values: Mapping[str, npt.NDArray]
    label: npt.NDArray[np.int64]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.label)

    def select(self, rows: npt.NDArray) -> "JetColumns":
        """The jets at ``rows``: positions, or (J,) bool."""
        values = {name: column[rows] for name, column in self.values.items()}
        return replace(self, values=values, label=self.label[rows])


def read_jet_columns(
    inputs: Sequence[InputFile], card: DataCard, columns: Sequence[str], classes: Sequence[str], *, default: str = ""
) -> JetColumns:
    """Read jet columns and classes of all jets, those without constituents included.

    Args:
        inputs: from `expand_inputs`.
        card: from `load_card`.
        columns: names under ``jet`` on the card, or ``embedding``; pt, eta, phi, energy, mass, nparticles are summed
            where absent.
        classes: that labels index into.
        default: class of files that tell none; where it is empty such a file is refused.

    Raises:
        CardError: the card knows no such column.
        DataError: a file is missing, damaged, or lacks a branch.
    """
    found: dict[str, list[npt.NDArray]] = {name: [] for name in columns}
    labels: list[npt.NDArray[np.int64]] = []
    names = tuple(classes)
    for file in inputs:
        with open_source(file, card.tree, card.join) as source:
            where = f"{file.address}, tree {source.tree_name}" if source.tree_name else file.address
            binding = _sums(card, source, file, columns)
            summed = binding.jet_columns if binding else ()
            places = {name: _place(card, source, name, where) for name in columns if name not in summed}
            known = None if default and not _tells_class(card, source, file) else file_labels(card, source, file, names)
            branches = (
                *(branch for branch, _ in places.values()),
                *(binding.branches if binding else ()),
                *(known.branches if known else ()),
            )
            begin = 0
            for chunk in chunks(source, tuple(dict.fromkeys(branches)), where):
                length = len(chunk[branches[0]])
                entries = np.arange(begin, begin + length)
                begin += length
                for name, (branch, factor) in places.items():
                    found[name].append(_values(chunk[branch], name, branch, where) * np.float32(factor))
                if binding:
                    sums = make_piece(chunk, binding, entries, None, arrange=False).jet
                    for name in summed:
                        found[name].append(np.asarray(sums[name], dtype=np.float32))
                labels.append(known(chunk, entries) if known else np.full(length, names.index(default)))
    if not labels:
        raise DataError("no jet", where=inputs[0].address if inputs else "", do="give files with jets")
    return JetColumns(
        {name: np.concatenate(pieces) for name, pieces in found.items()},
        np.concatenate(labels).astype(np.int64),
        names,
    )


def _sums(card: DataCard, source: Source, file: InputFile, columns: Sequence[str]) -> Binding | None:
    """What gives the columns that this file lacks and the sum of its constituents has; None where it lacks none."""
    absent = [name for name in columns if name in SUMMED and locate(card, source.names, "jet", name) is None]
    if not absent:
        return None
    try:
        return bind(card, source, file.address, fields=(), jet_columns=absent)
    except (CardError, DataError):
        return None  # no constituents either: the column is what is missing


def _place(card: DataCard, source: Source, name: str, where: str) -> tuple[str, float]:
    if name == EMBEDDING:
        if EMBEDDING not in source.names:
            do = "write one with jettag embed RUN --data FILES --out emb.parquet"
            raise DataError("no column embedding", where=where, do=do)
        return EMBEDDING, 1.0
    if name not in card.jet:
        raise CardError(f"no jet column {name!r}", where=f"card {card.name}", do=nearest(name, card.jet))
    bound = locate(card, source.names, "jet", name)
    if bound is None:
        branch = card.jet[name].branches[0]
        raise DataError(f"no branch {branch}", where=where, do=nearest(branch, source.names))
    return bound.branch, bound.factor


def _tells_class(card: DataCard, source: Source, file: InputFile) -> bool:
    """Whether the file's name or a branch says what its jets are."""
    if file.class_name is not None:
        return True
    if card.labels is None:
        return False
    stored = card.labels.classes.values() if card.labels.kind == "one_hot" else card.labels.branches
    return any(branch in source.names for branch in stored)


def _values(column: ak.Array, name: str, branch: str, where: str) -> npt.NDArray:
    if name != EMBEDDING:
        return flat(column, branch, where)
    try:
        table = ak.to_numpy(column)
    except ValueError:
        table = np.empty(0)
    if table.ndim != 2:
        raise DataError("embedding holds vectors of different lengths", where=where, do="write it again")
    return np.asarray(table)
