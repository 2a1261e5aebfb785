"""A `JetTable` that grows file by file without ever being copied whole."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jettag.data.columns import Piece
from jettag.data.features import FeatureSet
from jettag.data.jets import JetTable
from jettag.errors import DataError

__all__ = ["TableBuilder"]

GENEROUS = 2.0  # times what the first file lets expect: classes differ in their constituents by less


class _Growing:
    """Rows appended in place; the memory touched beyond them is at most an eighth."""

    def __init__(self, width: int | None, dtype: Any) -> None:
        self._data: npt.NDArray[Any] = np.empty((0,) if width is None else (0, width), dtype=dtype)
        self._size = 0

    def room(self, rows: int, share: float) -> npt.NDArray[Any]:
        """The next ``rows``, to be filled at once: growing again may move them.

        Args:
            rows: how many.
            share: of all rows, how many there are with these.
        """
        needed = self._size + rows
        if not self._size:
            # Memory that is asked for and never touched costs nothing, and growing sets all that is new to zero first.
            try:
                self._data = np.empty((int(needed / share * GENEROUS), *self._data.shape[1:]), dtype=self._data.dtype)
            except MemoryError:
                self._data = np.empty((needed, *self._data.shape[1:]), dtype=self._data.dtype)
        if needed > len(self._data):
            # realloc moves no bytes for large blocks.
            self._data.resize((needed + needed // 8, *self._data.shape[1:]), refcheck=False)
        self._size = needed
        return self._data[needed - rows : needed]

    @property
    def num_bytes(self) -> int:
        """Of the rows so far."""
        return self._size * self._data.dtype.itemsize * int(np.prod(self._data.shape[1:]))

    def finish(self) -> npt.NDArray[Any]:
        self._data.resize((self._size, *self._data.shape[1:]), refcheck=False)
        return self._data


class TableBuilder:
    """Collects pieces and counts of what was left out.

    Args:
        features: the set to compute.
        labelled: whether pieces come with labels.
        constituent_columns: columns to keep beside the features.
    """

    def __init__(self, features: FeatureSet, *, labelled: bool, constituent_columns: Sequence[str] = ()) -> None:
        self._set = features
        self._features = _Growing(len(features.names), np.float32)
        self._p4 = _Growing(4, np.float32)
        self._counts = _Growing(None, np.int64)
        self._label = _Growing(None, np.int64) if labelled else None
        self._jet: dict[str, list[npt.NDArray[Any]]] = {}
        self._constituent: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in constituent_columns}
        self._notes: dict[str, int] = {}

    def count(self, notes: Mapping[str, int]) -> None:
        """Add to the counts worth telling."""
        for name, number in notes.items():
            self._notes[name] = self._notes.get(name, 0) + number

    def add(self, piece: Piece, label: npt.NDArray[np.int64] | None, share: float) -> None:
        """The jets of one chunk, with which ``share`` (0 to 1] of everything has been read."""
        columns = self._set.scaled(piece.columns)
        self.count(piece.notes)
        length = len(columns["pt"])
        self._set(columns, out=self._features.room(length, share))
        momentum = self._p4.room(length, share)
        for place, name in enumerate(("px", "py", "pz", "energy")):
            momentum[:, place] = columns[name]
        self._counts.room(len(piece.counts), share)[:] = piece.counts
        if self._label is not None and label is not None:
            self._label.room(len(label), share)[:] = label
        for name, values in piece.jet.items():
            self._jet.setdefault(name, []).append(values)
        for name, kept in self._constituent.items():
            kept.append(columns[name])

    @property
    def num_bytes(self) -> int:
        """Of features and momenta so far, which are nearly all."""
        return self._features.num_bytes + self._p4.num_bytes

    def finish(self, class_names: Sequence[str], *, read: int, jet_columns: Sequence[str], where: str) -> JetTable:
        """The table.

        Raises:
            DataError: no jet is left; the cut flow is in the message.
        """
        counts = self._counts.finish()
        if not len(counts):
            flow = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in self._notes.items())
            do = f"give files with jets of {', '.join(class_names)}" if read and class_names else "give files with jets"
            raise DataError(f"no jet left of {read} read" + (f" ({flow})" if flow else ""), where=where, do=do)
        return JetTable(
            features=self._features.finish(),
            p4=self._p4.finish(),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            feature_names=self._set.names,
            label=None if self._label is None else self._label.finish(),
            class_names=tuple(class_names),
            jet={name: np.concatenate(self._jet[name]) for name in jet_columns},
            notes=self._notes,
            num_entries=read,
            constituent={name: np.concatenate(kept) for name, kept in self._constituent.items()},
        )
