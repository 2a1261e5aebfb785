"""The class of each jet: from one-hot branches, from a value, or from the file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import awkward as ak
import numpy as np
import numpy.typing as npt

from jettag.config.schemes import scheme, scheme_names
from jettag.data.binding import bind_labels
from jettag.data.card import DataCard, OneHotLabels, ValueLabels
from jettag.data.columns import flat
from jettag.data.inputs import InputFile
from jettag.data.source import Source
from jettag.errors import DataError, nearest

__all__ = ["OTHER", "FileLabels", "class_names", "file_labels"]

OTHER = -1  # a jet of a class that was not asked for


def class_names(card: DataCard, inputs: Sequence[InputFile], classes: Sequence[str] | None) -> tuple[str, ...]:
    """The classes of a table, in order: those asked for, or the card's, or the files' in the order given.

    Raises:
        DataError: a class is known neither to the card nor to a file.
    """
    given = tuple(dict.fromkeys(file.class_name for file in inputs if file.class_name))
    known = card.classes or given
    if given and not classes and not set(given) & set(known) and all(file.class_name for file in inputs):
        return _of_a_scheme(card, given)
    for name in classes or ():
        if name not in {*known, *given}:
            do = f"give its files as {name}:GLOB" if given else nearest(name, known)
            raise DataError(f"no class {name!r} in card {card.name} or in the files", do=do)
    for name in given:
        if name not in {*known, *(classes or ())}:
            raise DataError(f"no class {name!r} in card {card.name}", do=nearest(name, known))
    if not known:
        raise DataError(f"card {card.name} has no labels", do="give files as CLASS:GLOB")
    return tuple(classes) if classes else known


def _of_a_scheme(card: DataCard, given: Sequence[str]) -> tuple[str, ...]:
    """The classes, in their order, of the label scheme that all files together bring, where the card knows none."""
    what = f"no class {given[0]!r} in card {card.name}"
    possible = [one.classes for one in map(scheme, scheme_names()) if set(given) <= set(one.classes)]
    if not possible:
        raise DataError(what, do=nearest(given[0], card.classes))
    closest = min(possible, key=len)
    if absent := [name for name in closest if name not in given]:
        do = f"{nearest(given[0], card.classes)} Or give files as CLASS:GLOB of {', '.join(absent)} too"
        raise DataError(what, do=do)
    return closest


@dataclass(frozen=True)
class FileLabels:
    """How to label the jets of one file.

    Attributes:
        branches: label branches to read, none where the class is the file's.
        where: file and tree, for messages.
    """

    card: DataCard
    names: tuple[str, ...]
    fixed: str | None
    by_class: Mapping[str, str]
    where: str

    @property
    def branches(self) -> tuple[str, ...]:
        """Label branches to read."""
        return tuple(dict.fromkeys(self.by_class.values()))

    def __call__(self, chunk: Mapping[str, ak.Array], entries: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(n,) index into ``names``, `OTHER` for jets of other classes.

        Raises:
            DataError: a jet has no class or two, or a value that the card does not know.
        """
        if self.fixed is not None:
            place = self.names.index(self.fixed) if self.fixed in self.names else OTHER
            return np.full(len(entries), place, dtype=np.int64)
        columns = {name: flat(chunk[branch], branch, self.where) for name, branch in self.by_class.items()}
        if isinstance(self.card.labels, OneHotLabels):
            return self._one_hot(columns, self.card.labels, entries)
        assert isinstance(self.card.labels, ValueLabels)  # cards have labels, or `file_labels` would have said so
        return self._value(columns[""], self.card.labels, entries)

    def _one_hot(
        self, columns: Mapping[str, npt.NDArray], labels: OneHotLabels, entries: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        result = np.full(len(entries), OTHER, dtype=np.int64)
        ones = np.zeros(len(entries), dtype=np.int64)
        for name, column in columns.items():
            is_set = column.astype(bool)
            if column.dtype != bool and not np.array_equal(column, is_set):
                bad = column != is_set
                what = f"{np.count_nonzero(bad)} values of {self.by_class[name]} are neither 0 nor 1"
                raise DataError(what, where=f"{self.where}, first in entry {entries[int(np.argmax(bad))]}")
            ones += is_set
            if name in self.names:
                result[is_set] = self.names.index(name)
        complete = len(columns) == len(labels.classes)  # else no one may mean one of the branches that are absent
        bad = (ones > 1) | ((ones == 0) & complete)
        if bad.any():
            none, several = np.count_nonzero((ones == 0) & complete), np.count_nonzero(ones > 1)
            what = f"of {len(ones)} jets {none} have no class set and {several} have several"
            place = f"{self.where}, first in entry {entries[int(np.argmax(bad))]}"
            raise DataError(what, where=place, do="check the labels of the card, or give the class as CLASS:GLOB")
        return result

    def _value(self, column: npt.NDArray, labels: ValueLabels, entries: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        result = np.full(len(entries), OTHER, dtype=np.int64)
        known = np.zeros(len(entries), dtype=bool)
        for name, values in labels.classes.items():
            matches = np.isin(column, values)
            known |= matches
            if name in self.names:
                result[matches] = self.names.index(name)
        if not known.all():
            strange, counts = np.unique(column[~known], return_counts=True)
            shown = ", ".join(f"{value:g} ({count} jets)" for value, count in zip(strange[:5], counts[:5], strict=True))
            place = f"{self.where}, first in entry {entries[int(np.argmax(~known))]}"
            raise DataError(
                f"{self.by_class['']} has values without a class: {shown}", where=place, do="add them to the card"
            )
        return result


def file_labels(
    card: DataCard, source: Source, file: InputFile, names: tuple[str, ...], *, every: bool = True
) -> FileLabels:
    """What labels the jets of a file: its own class wins over any branch.

    Raises:
        DataError: it lacks the branch of a class; where ``every`` is False, of all classes.
    """
    by_class: Mapping[str, str] = {}
    if not file.class_name:
        some = {} if every or card.labels is None else bind_labels(card, source, file.address, ())
        by_class = some or bind_labels(card, source, file.address, names)
    where = f"{file.address}, tree {source.tree_name}" if source.tree_name else file.address
    return FileLabels(card, names, file.class_name, by_class, where)
